"""What ``backends`` and ``check-backend`` have found -> lines for a person, or JSON. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from asyncdup.cli.json_output import record_line
from asyncdup.commands.backends import ABILITIES, BackendKind
from asyncdup.commands.check_backend import BackendReport
from asyncdup.commands.link import Advice, Rates
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
    """``kinds``, an object for each."""
    return record_line("backends", {"kinds": [dataclasses.asdict(kind) for kind in kinds]})


def check_backend_lines(found: BackendReport) -> Iterator[str]:
    """What it can do, how fast it is, what to set, and last whether it keeps its promises, if that was tried."""
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
    if found.congestion:
        yield f"  {'congestion control':<22}{', '.join(found.congestion)}"
    yield ""
    yield from _rates_lines(found.rates)
    yield ""
    yield f"With objects of {format_size(found.size)}; larger ones need fewer transfers at once."
    yield from _advice_lines(found.advice, found.congestion)
    if any(rate.queued and rate.sent_again for rate in found.rates):
        yield "Packets sent again while others stood in a queue: the link is full there, which is no fault of it."
    if found.passed or found.broken or found.lacking:
        yield ""
        yield from _promises_lines(found)


def _promises_lines(found: BackendReport) -> Iterator[str]:
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
    return record_line("check-backend", content)


def _rates_lines(rates: Sequence[Rates]) -> Iterator[str]:
    tells = any(rate.queue is not None for rate in rates)
    heads = "  ".join(f"{head:>12}" for head in ("up", "down", *(("sent again", "in a queue") if tells else ())))
    yield f"  {'in flight':>9}  {heads}"
    for rate in rates:
        cells = [_rate(rate.up), _rate(rate.down)]
        if tells:
            cells += [
                _share(rate.sent_again / rate.sent) if rate.sent else "-",
                "-" if rate.queue is None else f"{rate.queue * 1000:.0f} ms",
            ]
        yield f"  {rate.in_flight:>9}  {'  '.join(f'{cell:>12}' for cell in cells)}"


def _advice_lines(advice: Advice, used: Sequence[str]) -> Iterator[str]:
    if advice.up is not None:
        yield f"For backups: --concurrency {advice.up}, the fewest transfers at once that were within a tenth of the best rate."
    if advice.down is not None:
        yield f"For restores: --concurrency {advice.down}."
    if advice.more:
        yield "More at once than were tried may be faster still."
    if advice.loss:
        yield f"{_share(advice.loss)} of the packets on the way up were lost though no queue stood."
    if advice.congestion is not None and advice.per_connection is not None:
        yield f"Under {' and '.join(used)}, a connection carries about {_rate(advice.per_connection)} with that. {advice.congestion} does not slow down for it:"
        yield from _congestion_lines(advice.congestion, allowed=advice.allowed)


def _congestion_lines(control: str, *, allowed: bool) -> Iterator[str]:
    if allowed:
        yield f"  for backups, over SFTP or S3:  --tcp-congestion={control}"
    yield f"  for backups, on this host, as root:  sysctl net.ipv4.tcp_congestion_control={control}"
    yield "  for restores:  the same at the server, which is the one that sends"


def _limit(most: int | None) -> str:
    return "as many as wanted" if most is None else f"up to {most} calls"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _share(share: float) -> str:
    return f"{share:.2%}" if not 0 < share < 0.0001 else "< 0.01%"


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{format_size(int(rate))}/s"
