"""The engine: when bytes move. Knows backends by their interface and nothing of backups or formats."""

from asyncdup.transfer.attempt import Attempt, current_attempt
from asyncdup.transfer.engine import Engine, EngineStatistics, LaneStatistics
from asyncdup.transfer.fetch import ReadItem, ReadRequest
from asyncdup.transfer.intervention import Intervention
from asyncdup.transfer.lane import Gate, Lane
from asyncdup.transfer.opening import open_engine
from asyncdup.transfer.ops import Op
from asyncdup.transfer.ordered import OrderedReader, ReadResult, Writer
from asyncdup.transfer.policy import RetryPolicy
from asyncdup.transfer.retry import Done, call_persistently
from asyncdup.transfer.spool import Spool, SpoolBody, SpoolFile

__all__ = [
    "Attempt",
    "Done",
    "Engine",
    "EngineStatistics",
    "Gate",
    "Intervention",
    "Lane",
    "LaneStatistics",
    "Op",
    "OrderedReader",
    "ReadItem",
    "ReadRequest",
    "ReadResult",
    "RetryPolicy",
    "Spool",
    "SpoolBody",
    "SpoolFile",
    "Writer",
    "call_persistently",
    "current_attempt",
    "open_engine",
]
