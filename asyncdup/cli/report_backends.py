"""What ``backends`` and ``check-backend`` have found -> lines for a person, or JSON. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from asyncdup.commands.backends import ABILITIES, BackendKind
from asyncdup.commands.check_backend import BackendReport
from asyncdup.units import format_size

BROKEN = 1  # exit code: a promise is broken


def backends_lines(kinds: Sequence[BackendKind]) -> Iterator[str]:
    """A table; under it, what to install for what is missing."""
    width = max(len(kind.schemes[0]) for kind in kinds) + 3
    place = max(len(kind.place) for kind in kinds)
    yield f"{'scheme':<{width}}  {'reaches':<{place}}  {'  '.join(ABILITIES)}"
    for kind in kinds:
        marks = "  ".join(("yes" if ability in kind.abilities else "-").ljust(len(ability)) for ability in ABILITIES)
        yield f"{kind.schemes[0] + '://':<{width}}  {kind.place:<{place}}  {marks}{'  needs ' + kind.missing if kind.missing else ''}".rstrip()
    yield ""
    for kind in kinds:
        if len(kind.schemes) > 1:
            yield f"the same as {kind.schemes[0]}://  {' '.join(f'{scheme}://' for scheme in kind.schemes[1:])}"
    for kind in kinds:
        if kind.missing:
            yield f"for {kind.schemes[0]}://  {kind.install}"


def backends_json(kinds: Sequence[BackendKind]) -> str:
    """One object for each kind, in one line."""
    return json.dumps([dataclasses.asdict(kind) for kind in kinds])


def check_backend_lines(found: BackendReport) -> Iterator[str]:
    """What it can do, how fast it is, and last whether it keeps its promises."""
    able = found.capabilities
    yield found.place
    yield ""
    yield f"  {'at once':<22}{_limit(able.max_concurrency) if found.concurrent else 'one call'}"
    yield f"  {'whole or not at all':<22}{_yes(able.atomic_put)}"
    yield f"  {'ranges':<22}{_yes(able.ranged_get)}"
    yield f"  {'parts':<22}{_yes(able.parts is not None)}"
    yield f"  {'conditional put':<22}{_yes(able.put_if_absent)}"
    yield f"  {'rename':<22}{_yes(able.server_move)}"
    yield f"  {'checksums':<22}{', '.join(able.checksums) or 'no'}"
    yield f"  {'round trip':<22}{found.rtt * 1000:.1f} ms"
    yield ""
    yield f"  {'in flight':>9}  {'up':>12}  {'down':>12}"
    for rates in found.rates:
        yield f"  {rates.in_flight:>9}  {_rate(rates.up):>12}  {_rate(rates.down):>12}"
    yield ""
    for name, seen in found.lacking:
        yield f"  not offered by this server: {name} ({seen})"
    for name, seen in found.broken:
        yield f"  BROKEN  {name}: {seen}"
    kept, all_ = len(found.passed), len(found.passed) + len(found.broken)
    apart = f"; {len(found.skipped)} do not apply" if found.skipped else ""
    yield f"  {'all ' if kept == all_ else ''}{kept}{'' if kept == all_ else f' of {all_}'} promises kept{apart}"


def check_backend_json(found: BackendReport) -> str:
    """The report in one line; ``rtt`` in seconds, rates in bytes per second."""
    content: dict[str, Any] = dataclasses.asdict(found)
    content["capabilities"]["parts"] = found.capabilities.parts and found.capabilities.parts._asdict()
    for kind in ("broken", "lacking"):
        content[kind] = [{"promise": name, "seen": seen} for name, seen in content[kind]]
    return json.dumps(content)


def _limit(most: int | None) -> str:
    return "as many as wanted" if most is None else f"up to {most} calls"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{format_size(int(rate))}/s"
