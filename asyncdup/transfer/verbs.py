"""The verbs: what one attempt of each does to a backend, and how its outcome is found out when the answer was lost (engine rule I2).

Every function runs inside an attempt, whose clocks it keeps: bytes as they move, and what is not the transport's fault.
"""

from __future__ import annotations

from asyncdup.backends.base import UNKNOWN_SIZE, Backend, Body, ObjectInfo, SupportsPutIfAbsent, SupportsWaitIdle
from asyncdup.errors import NotFound, PermanentError, Precondition, RetryableError, Unsupported
from asyncdup.transfer.attempt import Attempt, MeteredBody, current_attempt
from asyncdup.transfer.retry import Done

UNSEEN = 256 << 20  # bytes: what an opaque backend may be fetching when nobody knows the size
_WEAK = ("crc", "adler")  # checksums that find accidents but prove nothing about the whole object


def is_opaque(backend: Backend) -> bool:
    """Whether bytes move out of sight, as in the threads of a legacy backend, so that a stall cannot be told from slow work."""
    return isinstance(backend, SupportsWaitIdle)


async def put(backend: Backend, name: str, body: Body) -> ObjectInfo:
    """Store ``body``; the answer's size and digests must be the body's, else it is sent again (P5)."""
    attempt = current_attempt()
    info = await backend.put(name, await _metered(backend, body, attempt))
    try:
        return _stored(info, body, attempt)
    except RetryableError:
        await delete(backend, name)  # should every attempt end like this one, then nothing wrong is left under a name that says it is whole
        raise


async def put_if_absent(backend: Backend, name: str, body: Body) -> ObjectInfo:
    """Store ``body`` unless ``name`` exists. A refusal of a repeated attempt may mean our own first one, so it is looked at."""
    if not isinstance(backend, SupportsPutIfAbsent):
        raise Unsupported(f"{backend.description} cannot store only if absent")
    attempt = current_attempt()
    try:
        info = await backend.put_if_absent(name, await _metered(backend, body, attempt))
    except Precondition:
        done = await is_stored(backend, name, body, absent=False) if attempt.number > 1 else None
        if done is None:
            raise
        return done.value
    return _stored(info, body, attempt)


async def is_stored(backend: Backend, name: str, body: Body, *, absent: bool) -> Done[ObjectInfo] | None:
    """Whether an ambiguous put took effect: size and a strong digest match; or size matches, puts are atomic and the name was absent before."""
    try:
        info = await backend.stat(name)
    except (NotFound, Unsupported):
        return None
    if info.size != body.size:
        return None
    shared = [kind for kind in info.digests if kind in body.digests and not kind.startswith(_WEAK)]
    if any(info.digests[kind] != body.digests[kind] for kind in shared):
        return None
    return Done(info) if shared or (absent and backend.capabilities().atomic_put) else None


async def delete(backend: Backend, name: str) -> None:
    """Remove ``name``; that it is not there is success, since an earlier attempt may have removed it."""
    current_attempt().request_sent()
    try:
        await backend.delete(name)
    except NotFound:
        return


async def stat(backend: Backend, name: str) -> ObjectInfo:
    """What the backend knows of ``name``."""
    current_attempt().request_sent()
    return await backend.stat(name)


async def listing(backend: Backend, prefix: str) -> list[ObjectInfo]:
    """All objects whose name begins with ``prefix``."""
    attempt = current_attempt()
    attempt.request_sent()
    found: list[ObjectInfo] = []
    async with backend.list(prefix) as infos:
        async for info in infos:
            found.append(info)
            attempt.progress()
    return found


async def get_bytes(backend: Backend, name: str, max_size: int) -> bytes:
    """A small object whole. Raises PermanentError as soon as it turns out to be larger than ``max_size``."""
    attempt = current_attempt()
    attempt.request_sent(size=max_size if is_opaque(backend) else 0)
    data = bytearray()
    async with backend.get(name) as chunks:
        async for chunk in chunks:
            attempt.progress(len(chunk))
            await attempt.move("down", len(chunk))
            data += chunk
            if len(data) > max_size:
                raise PermanentError(f"{name} is larger than {max_size} bytes, which is too much for what it should be")
    return bytes(data)


async def _metered(backend: Backend, body: Body, attempt: Attempt) -> MeteredBody:
    opaque = is_opaque(backend)
    if opaque:  # it may take the file whole, without asking for a chunk
        await attempt.move("up", body.size)  # all at once: only the mean over several objects can be kept to the limit
        attempt.body_begun = True
        attempt.request_sent(size=body.size)
    return MeteredBody(body, attempt, opaque=opaque)


def _stored(info: ObjectInfo, body: Body, attempt: Attempt) -> ObjectInfo:
    attempt.progress(max(0, body.size - attempt.bytes))  # a backend need not ask for the end of the body
    return as_sent(info, body)


def as_sent(info: ObjectInfo, body: Body) -> ObjectInfo:
    """``info``, if what the target says of the object is what was sent. Raises RetryableError if it is not (P5)."""
    if info.size not in (UNKNOWN_SIZE, body.size):
        raise RetryableError(f"{info.name} is {info.size} bytes at the target, but {body.size} were sent")
    for kind, digest in body.digests.items():
        if info.digests.get(kind, digest) != digest:
            raise RetryableError(f"{info.name} has another {kind} digest at the target than what was sent")
    return info
