"""Which set is to be written: decisions before a backup. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asyncdup.archive.chains import IS_IT_RIGHT, BackupSet, Chain, Collection
from asyncdup.errors import AsyncdupError, ChainError, UsageError
from asyncdup.formats.manifest import Manifest
from asyncdup.formats.names import SetId, format_time

Action = Literal["full", "incremental", "backup"]

NO_SIGNATURES, OTHER_HOST, OTHER_SOURCE = 17, 3, 42  # duplicity's exit codes


@dataclass(frozen=True, slots=True)
class Plan:
    """The set to be written; ``base``: the chain that it is built upon, None for a full. ``notices``: why, where it is not as expected."""

    id: SetId
    base: Chain | None
    notices: tuple[str, ...] = ()


def plan(action: Action, collection: Collection, *, now: int, full_if_older_than: int | None, full_if_n_inc: int | None = None) -> Plan:
    """A full if it is asked for, due, or if ``backup`` finds nothing to build upon.

    Raises:
        ChainError: ``incremental`` without a chain to build upon (exit 17), or the clock is behind the newest set (P12).
    """
    time = _set_time(collection, now)
    full = Plan(SetId("full", None, time), None)
    if action == "full":
        return full
    base, defects = collection.base()
    if base is None:
        if action == "incremental":
            raise _nothing_to_build_upon(defects, collection.place)
        return Plan(full.id, None, tuple(f"{defect}: a full backup is made" for defect in defects))
    if base.full_is_due(older_than=full_if_older_than):
        return Plan(full.id, None, (f"the last full backup is of {format_time(base.start)}: a new one is due",))
    if base.full_is_due(n_inc=full_if_n_inc):
        return Plan(full.id, None, (f"the chain has {len(base.sets) - 1} incrementals: a new full backup is due",))
    return Plan(SetId("inc", base.end, time), base, tuple(f"{defect}: its place is taken" for defect in defects))


def check_same_source(manifest: Manifest, base: BackupSet, *, hostname: bytes, localdir: bytes) -> None:
    """A chain holds one directory of one host, or its increments are nonsense.

    Raises:
        UsageError: another host (exit 3) or another directory (exit 42) than the newest set's.
    """
    hint = "if that is right: --allow-source-mismatch; for another directory take another target, or make a full"
    if manifest.hostname not in (None, hostname):
        was = (manifest.hostname or b"").decode("utf-8", "replace")
        raise UsageError(f"the set {base.id} was made on host {was}", hint=hint, exit_code=OTHER_HOST)
    if manifest.localdir not in (None, localdir):
        was = (manifest.localdir or b"").decode("utf-8", "replace")
        raise UsageError(f"the set {base.id} is of {was}, not of this directory", hint=hint, exit_code=OTHER_SOURCE)


def wait_for_clock(collection: Collection, now: float) -> float:
    """Seconds until the clock shows a later second than the newest set's, if it is just that second; else 0 (P12)."""
    latest = max(collection.taken_times, default=0)
    return latest + 1 - now if latest == int(now) else 0.0


def _set_time(collection: Collection, now: int) -> int:
    latest = max(collection.taken_times, default=None)
    if latest is not None and now <= latest:
        raise ChainError(
            f"the clock says {format_time(now)}, but the newest backup is of {format_time(latest)}",
            hint="set the clock right; if the backup's time is wrong, begin again at another target or with another --file-prefix",
        )
    return now


def _nothing_to_build_upon(defects: list[str], place: str) -> AsyncdupError:
    why = "; ".join(defects) or f"there is no complete backup at {place}"
    hint = (
        f"make a full backup first; if there should be one: {IS_IT_RIGHT}"
        if not defects
        else "check --repair says what can be mended; else make a full backup first"
    )
    return ChainError(f"an incremental has nothing to build upon: {why}", hint=hint, exit_code=NO_SIGNATURES)
