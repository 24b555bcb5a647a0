"""What is asked of a legacy object, in its thread: the four methods it must have and those it may have; and what its errors mean."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from asyncdup.backends.base import UNKNOWN_SIZE, BlockingBackend, ObjectInfo
from asyncdup.backends.names import check_name
from asyncdup.backends.oserrors import classify
from asyncdup.errors import AsyncdupError, BadRequest, NotFound, RetryableError, Unsupported

# What is wrong in the program and not in the world: never retried (engine semantics, section 3).
_BUGS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NameError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)


def list_objects(legacy: BlockingBackend, prefix: str) -> list[ObjectInfo]:
    """Each object whose name begins with ``prefix``, with its size if the class can tell. A location that is not there lists nothing."""
    listing = getattr(legacy, "list_infos", None)
    try:
        if listing is not None:
            return [info for info in listing() if info.name.startswith(prefix) and is_name(info.name)]
        names = [name for name in legacy.list() if name.startswith(prefix) and is_name(name)]
    except FileNotFoundError:
        return []
    found = []
    for name in names:
        with suppress(FileNotFoundError, NotFound):  # deleted since it was listed
            found.append(look(legacy, name) or ObjectInfo(name, UNKNOWN_SIZE))
    return found


def is_name(name: str) -> bool:
    """Names from a server are hostile until looked at (P16); what could not be asked for is no object."""
    try:
        check_name(name)
    except BadRequest:
        return False
    return True


def look(legacy: BlockingBackend, name: str) -> ObjectInfo | None:
    """What the class says of ``name``; None if it cannot say."""
    stat = getattr(legacy, "stat", None)
    if stat is not None:
        info: ObjectInfo | None = stat(name)
        return info
    size = getattr(legacy, "size", None)
    if size is not None:
        return ObjectInfo(name, int(size(name)))
    return None


def get(legacy: BlockingBackend, name: str, path: Path) -> int:
    """Fetch ``name`` into ``path`` and return its size."""
    legacy.get(name, path)
    try:
        return path.stat().st_size
    except FileNotFoundError as exc:
        raise RetryableError(f"{type(legacy).__name__}.get returned without writing {name!r}") from exc


def move(legacy: BlockingBackend, source: str, target: str) -> None:
    """Raises Unsupported if the class has no ``move``."""
    rename = getattr(legacy, "move", None)
    if rename is None:
        raise Unsupported(f"{type(legacy).__name__} cannot move")
    rename(source, target)


def delete(legacy: BlockingBackend, name: str) -> None:
    """An absent name is success."""
    with suppress(FileNotFoundError, NotFound):
        legacy.delete(name)


def close(legacy: BlockingBackend | None) -> bool:
    """Close what can be closed; True, for the caller to note."""
    shut = getattr(legacy, "close", None)
    if shut is not None:
        shut()
    return True


def translate(exc: Exception, action: str, *, absent: bool, ambiguous: bool) -> Exception:
    """The adapter table of engine semantics, section 3. ``exc`` itself if it needs no translation."""
    if isinstance(exc, NotImplementedError):
        return Unsupported(f"{action}: not implemented")
    if isinstance(exc, OSError):
        return classify(exc, action, absent=absent, ambiguous=ambiguous)
    if isinstance(exc, (AsyncdupError, *_BUGS)):
        return exc
    return RetryableError(f"{action}: {str(exc) or type(exc).__name__}", ambiguous=ambiguous)
