"""Backups in duplicity's own format, with all transfers in the background.

The public names, and nothing else; docs/embedding.md says a line about each. A name is imported when it is first asked for, so
``import asyncdup`` loads neither the event loop nor ssh. ``asyncdup.testing`` is public, too: backends that fail, a virtual clock.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncdup import errors as errors
    from asyncdup import events as events
    from asyncdup.archive.chains import BackupSet as BackupSet
    from asyncdup.archive.chains import Chain as Chain
    from asyncdup.archive.chains import Collection as Collection
    from asyncdup.archive.check import Finding as Finding
    from asyncdup.archive.compare import Mismatch as Mismatch
    from asyncdup.archive.selection import Rule as Rule
    from asyncdup.archive.statistics import Statistics as Statistics
    from asyncdup.archive.versions import Difference as Difference
    from asyncdup.archive.versions import Version as Version
    from asyncdup.backends.base import Backend as Backend
    from asyncdup.backends.base import BlockingBackend as BlockingBackend
    from asyncdup.backends.base import Body as Body
    from asyncdup.backends.base import Capabilities as Capabilities
    from asyncdup.backends.base import ObjectInfo as ObjectInfo
    from asyncdup.backends.base import SupportsMove as SupportsMove
    from asyncdup.backends.base import SupportsPutIfAbsent as SupportsPutIfAbsent
    from asyncdup.backends.base import SupportsWaitIdle as SupportsWaitIdle
    from asyncdup.backends.blocking import BlockingAdapter as BlockingAdapter
    from asyncdup.backends.blocking import register_blocking as register_blocking
    from asyncdup.backends.bodies import BytesBody as BytesBody
    from asyncdup.backends.bodies import FileBody as FileBody
    from asyncdup.backends.options import BackendOptions as BackendOptions
    from asyncdup.backends.registry import known_schemes as known_schemes
    from asyncdup.backends.registry import open_backend as open_backend
    from asyncdup.backends.registry import register_backend as register_backend
    from asyncdup.backends.urls import Location as Location
    from asyncdup.codecs.base import Encryption as Encryption
    from asyncdup.commands.backup import BackupResult as BackupResult
    from asyncdup.commands.backup import backup as backup
    from asyncdup.commands.cat import CatResult as CatResult
    from asyncdup.commands.cat import cat as cat
    from asyncdup.commands.check import CheckResult as CheckResult
    from asyncdup.commands.check import check as check
    from asyncdup.commands.cleanup import CleanupResult as CleanupResult
    from asyncdup.commands.cleanup import cleanup as cleanup
    from asyncdup.commands.collection import collection_status as collection_status
    from asyncdup.commands.diff import DiffResult as DiffResult
    from asyncdup.commands.diff import diff as diff
    from asyncdup.commands.files import list_current_files as list_current_files
    from asyncdup.commands.find import FoundPath as FoundPath
    from asyncdup.commands.find import find as find
    from asyncdup.commands.history import HistoryResult as HistoryResult
    from asyncdup.commands.history import history as history
    from asyncdup.commands.options import Control as Control
    from asyncdup.commands.options import Options as Options
    from asyncdup.commands.remove import PruneResult as PruneResult
    from asyncdup.commands.remove import RemoveResult as RemoveResult
    from asyncdup.commands.remove import prune as prune
    from asyncdup.commands.remove import remove_all_but_n_full as remove_all_but_n_full
    from asyncdup.commands.remove import remove_all_inc_of_but_n_full as remove_all_inc_of_but_n_full
    from asyncdup.commands.remove import remove_older_than as remove_older_than
    from asyncdup.commands.restore import RestoreResult as RestoreResult
    from asyncdup.commands.restore import restore as restore
    from asyncdup.commands.unlock import UnlockResult as UnlockResult
    from asyncdup.commands.unlock import unlock as unlock
    from asyncdup.commands.verify import VerifyResult as VerifyResult
    from asyncdup.commands.verify import verify as verify
    from asyncdup.errors import AsyncdupError as AsyncdupError
    from asyncdup.errors import BackendError as BackendError
    from asyncdup.errors import BadRequest as BadRequest
    from asyncdup.errors import ChainError as ChainError
    from asyncdup.errors import CodecError as CodecError
    from asyncdup.errors import DependencyFailed as DependencyFailed
    from asyncdup.errors import Drained as Drained
    from asyncdup.errors import FormatError as FormatError
    from asyncdup.errors import IntegrityError as IntegrityError
    from asyncdup.errors import InterruptedByOperator as InterruptedByOperator
    from asyncdup.errors import LaneUnavailable as LaneUnavailable
    from asyncdup.errors import LockedError as LockedError
    from asyncdup.errors import NotFound as NotFound
    from asyncdup.errors import OperationCancelled as OperationCancelled
    from asyncdup.errors import OperatorError as OperatorError
    from asyncdup.errors import PermanentError as PermanentError
    from asyncdup.errors import Precondition as Precondition
    from asyncdup.errors import RestoreError as RestoreError
    from asyncdup.errors import RetryableError as RetryableError
    from asyncdup.errors import SignatureMismatch as SignatureMismatch
    from asyncdup.errors import Unsupported as Unsupported
    from asyncdup.errors import UsageError as UsageError
    from asyncdup.errors import exit_code_of as exit_code_of
    from asyncdup.events import Event as Event
    from asyncdup.events import EventHub as EventHub
    from asyncdup.events import Subscription as Subscription
    from asyncdup.formats.names import Prefixes as Prefixes
    from asyncdup.formats.names import SetId as SetId
    from asyncdup.formats.tar import Entry as Entry
    from asyncdup.transfer import Attempt as Attempt
    from asyncdup.transfer import Done as Done
    from asyncdup.transfer import Engine as Engine
    from asyncdup.transfer import EngineStatistics as EngineStatistics
    from asyncdup.transfer import Gate as Gate
    from asyncdup.transfer import Intervention as Intervention
    from asyncdup.transfer import Lane as Lane
    from asyncdup.transfer import LaneStatistics as LaneStatistics
    from asyncdup.transfer import Op as Op
    from asyncdup.transfer import OrderedReader as OrderedReader
    from asyncdup.transfer import ReadItem as ReadItem
    from asyncdup.transfer import ReadRequest as ReadRequest
    from asyncdup.transfer import ReadResult as ReadResult
    from asyncdup.transfer import RetryPolicy as RetryPolicy
    from asyncdup.transfer import Spool as Spool
    from asyncdup.transfer import SpoolBody as SpoolBody
    from asyncdup.transfer import SpoolFile as SpoolFile
    from asyncdup.transfer import Writer as Writer
    from asyncdup.transfer import call_persistently as call_persistently
    from asyncdup.transfer import current_attempt as current_attempt
    from asyncdup.transfer import open_engine as open_engine

__version__ = "0.1.0"

# The module that each public name lives in ("": it is one itself). The imports above are for type checkers only.
_HOMES = {
    "": "errors events",
    "archive.chains": "BackupSet Chain Collection",
    "archive.compare": "Mismatch",
    "archive.selection": "Rule",
    "archive.statistics": "Statistics",
    "archive.versions": "Difference Version",
    "backends.base": "Backend BlockingBackend Body Capabilities ObjectInfo SupportsMove SupportsPutIfAbsent SupportsWaitIdle",
    "backends.blocking": "BlockingAdapter register_blocking",
    "backends.bodies": "BytesBody FileBody",
    "backends.options": "BackendOptions",
    "backends.registry": "known_schemes open_backend register_backend",
    "backends.urls": "Location",
    "codecs.base": "Encryption",
    "commands.backup": "BackupResult backup",
    "archive.check": "Finding",
    "commands.cat": "CatResult cat",
    "commands.check": "CheckResult check",
    "commands.cleanup": "CleanupResult cleanup",
    "commands.collection": "collection_status",
    "commands.diff": "DiffResult diff",
    "commands.files": "list_current_files",
    "commands.find": "FoundPath find",
    "commands.history": "HistoryResult history",
    "commands.options": "Control Options",
    "commands.remove": "PruneResult prune RemoveResult remove_all_but_n_full remove_all_inc_of_but_n_full remove_older_than",
    "commands.restore": "RestoreResult restore",
    "commands.unlock": "UnlockResult unlock",
    "commands.verify": "VerifyResult verify",
    "errors": "AsyncdupError BackendError BadRequest ChainError CodecError DependencyFailed Drained FormatError IntegrityError"
    " InterruptedByOperator LaneUnavailable LockedError NotFound OperationCancelled OperatorError PermanentError Precondition RestoreError"
    " RetryableError SignatureMismatch Unsupported UsageError exit_code_of",
    "events": "Event EventHub Subscription",
    "formats.names": "Prefixes SetId",
    "formats.tar": "Entry",
    "transfer": "Attempt Done Engine EngineStatistics Gate Intervention Lane LaneStatistics Op OrderedReader ReadItem ReadRequest ReadResult"
    " RetryPolicy Spool SpoolBody SpoolFile Writer call_persistently current_attempt open_engine",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME_OF)

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name) if home else importlib.import_module(f"{__name__}.{name}")
        globals()[name] = value  # found there the next time, without this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
