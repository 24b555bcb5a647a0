"""SSH connections with their SFTP sessions: one object per connection that speaks in our errors, and a pool that deals them out.

Nothing here knows what an object of a backend is; paths are bytes.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio
import asyncssh

from asyncdup.backends.ssh_options import Login
from asyncdup.errors import BackendError, BadRequest, NotFound, OperatorError, PermanentError, RetryableError, Scope, Unsupported

MAX_CONNECTIONS = 8  # a greedy pool takes its share from other traffic (performance, section 10.2)
MAX_DIALLING = 8  # sshd's MaxStartups is 10:30:100: from the tenth that has not logged in yet, refusals begin
_CEILING_RETRY = 60.0  # seconds after which a lowered ceiling is tried one higher
CLEANUP_DEADLINE = 1.5  # seconds that tidying up after a cancelled or failed call may take; Ctrl-C ends within 2 (G9)

_LARGEST_BLOCK = 255 << 10  # bytes; OpenSSH closes the connection at packets of more than 256 KiB
_UNTOLD = 32 << 10  # bytes that every server takes and gives at once (draft-ietf-secsh-filexfer-02, section 3)
_WRITE_UNTOLD_OPENSSH = 128 << 10  # OpenSSH before 8.5 tells no limits and takes as much as later ones, but gives at most 64 KiB
_TOLD_NOTHING = 16 << 10  # bytes; asyncssh's value for servers that tell no limits
_NOTSENT_LOWAT = 128 << 10  # bytes (performance, section 10.4): what waits in the kernel cannot go over another connection any more

_NO_SFTP = "the server lets this user log in, but offers no SFTP: switch the subsystem on"

_TRANSPORT = (asyncssh.Error, OSError, EOFError)  # TimeoutError is an OSError
_LOST = (
    asyncssh.SFTPConnectionLost,
    asyncssh.SFTPNoConnection,
    asyncssh.SFTPBadMessage,
    asyncssh.DisconnectError,
    asyncssh.ChannelOpenError,
    OSError,
    EOFError,
)
_NO_ROOM = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded, asyncssh.SFTPWriteProtect)
_NO_ROOM_TEXTS = ("no space", "quota", "disk full", "read-only file system")
_MALFORMED = (asyncssh.SFTPInvalidFilename, asyncssh.SFTPInvalidParameter, asyncssh.SFTPNotADirectory, asyncssh.SFTPFileIsADirectory)
_LOGIN = (asyncssh.HostKeyNotVerifiable, asyncssh.PermissionDenied, asyncssh.IllegalUserName, asyncssh.KeyExchangeFailed)


def translate(error: Exception, doing: str, *, scope: Scope = "op", hint: str | None = None) -> BackendError:
    """The one table from asyncssh's errors to ours (engine-semantics, section 3). ``doing``: what failed, where, without secrets."""
    text = f"{doing}: {_reason(error)}"
    if isinstance(error, (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath)):
        return NotFound(text)
    if isinstance(error, _NO_ROOM) or (isinstance(error, asyncssh.SFTPError) and any(t in str(error).lower() for t in _NO_ROOM_TEXTS)):
        return OperatorError(text, space=True, hint="make room on the server, or raise the quota")
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return OperatorError(text, hint="the user that logs in may not do this: check owner and mode of the folder on the server")
    if isinstance(error, _LOGIN) or "too many authentication failures" in str(error).lower():
        return OperatorError(text, hint=hint)
    if isinstance(error, _MALFORMED):
        return BadRequest(text)
    if isinstance(error, asyncssh.SFTPOpUnsupported):
        return Unsupported(text)
    if isinstance(error, asyncssh.SFTPBadMessage) and scope == "lane":
        return OperatorError(text, hint="the login shell of the user on the server must print nothing (look into .bashrc)")
    if isinstance(error, asyncssh.ChannelOpenError) and hint is not None:
        return OperatorError(text, hint=hint)
    if isinstance(error, asyncssh.DisconnectError) and error.code == asyncssh.DISC_TOO_MANY_CONNECTIONS:
        return RetryableError(text, scope="lane", throttle=True)
    return RetryableError(text, scope=scope, hint=hint)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "connection refused"
    return str(error) or type(error).__name__


class Connection:
    """One logged-in connection with one SFTP session. Every method raises our errors only.

    Attributes:
        ops: calls of the backend that are using it now; changed by the pool only.
        lost: it can carry nothing any more; set once, never cleared.
        unacknowledged: bytes of WRITEs sent and not answered, over all its files; at most ``window``, or one block if that is larger.
        block, read_block: the most bytes the server takes in one WRITE, and gives in one READ.
        ssh: asyncssh's connection below it.
    """

    def __init__(self, ssh: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, *, place: str, window: int) -> None:
        self.place = place
        self.window = window
        self.ops = 0
        self.unacknowledged = 0
        old_openssh = "OpenSSH" in str(ssh.get_extra_info("server_version", ""))
        self.block = _block(sftp.limits.max_write_len, _WRITE_UNTOLD_OPENSSH if old_openssh else _UNTOLD)
        self.read_block = _block(sftp.limits.max_read_len, _UNTOLD)
        self.posix_rename = True  # until the server says otherwise
        self._gone = False
        self.ssh = ssh
        self._sftp = sftp
        self._room = anyio.Event()

    @property
    def lost(self) -> bool:
        return self._gone or self.ssh.is_closed()

    def give_up(self) -> None:
        """Use it no more: it does not answer, or something was left open on it."""
        self._gone = True

    async def reserve(self, size: int) -> None:
        """Wait until ``size`` more bytes may be unacknowledged, and count them. ``release`` gives them back."""
        while self.unacknowledged and self.unacknowledged + size > self.window:
            await self._room.wait()
        self.unacknowledged += size

    def release(self, size: int) -> None:
        """``size`` bytes of a WRITE were answered, or will never be."""
        self.unacknowledged -= size
        self._room.set()
        self._room = anyio.Event()

    async def create(self, path: bytes) -> asyncssh.SFTPClientFile:
        """A new file at ``path``, open for writing. Raises NotFound if its folder is not there."""
        with self._translated(f"cannot create {_shown(path)}"):
            flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_EXCL
            return await self._sftp.open(path, flags, encoding=None, block_size=0)

    async def open(self, path: bytes) -> asyncssh.SFTPClientFile:
        """The file at ``path``, open for reading."""
        with self._translated(f"cannot open {_shown(path)}"):
            return await self._sftp.open(path, asyncssh.FXF_READ, encoding=None, block_size=0)

    async def write(self, file: asyncssh.SFTPClientFile, block: bytes, offset: int) -> None:
        """One WRITE, sent before the first wait, returned from when it is answered."""
        with self._translated("cannot write"):
            await file.write(block, offset)

    async def read(self, file: asyncssh.SFTPClientFile, size: int, offset: int) -> bytes:
        """One READ: at most ``size`` bytes, perhaps fewer; none at the end of the file."""
        with self._translated("cannot read"):
            return await file.read(size, offset)

    async def sync(self, file: asyncssh.SFTPClientFile) -> None:
        """Make what was written durable, where the server offers it (P6)."""
        with self._translated("cannot fsync"), contextlib.suppress(asyncssh.SFTPOpUnsupported):
            await file.fsync()

    async def file_status(self, file: asyncssh.SFTPClientFile) -> asyncssh.SFTPAttrs:
        """Size and times as the server has them."""
        with self._translated("cannot stat"):
            return await file.stat()

    async def close(self, file: asyncssh.SFTPClientFile) -> None:
        """Close ``file`` on the server."""
        with self._translated("cannot close"):
            await file.close()

    async def status(self, path: bytes) -> asyncssh.SFTPAttrs:
        """Kind, size and times of what is at ``path``. Raises NotFound."""
        with self._translated(f"cannot stat {_shown(path)}"):
            return await self._sftp.stat(path)

    async def listing(self, path: bytes) -> AsyncGenerator[tuple[bytes, asyncssh.SFTPAttrs], None]:
        """Name and attributes of each entry of the folder ``path``, in no order. Close it with ``aclosing``."""
        with self._translated(f"cannot list {_shown(path)}"):
            async with aclosing(self._sftp.scandir(path)) as entries:  # type: ignore[type-var]
                async for entry in entries:
                    yield _as_bytes(entry.filename), entry.attrs

    async def remove(self, path: bytes) -> None:
        """Remove the file. Raises NotFound."""
        with self._translated(f"cannot delete {_shown(path)}"):
            await self._sftp.remove(path)

    async def make_folder(self, path: bytes) -> None:
        """``mkdir -p``: every folder on the way to ``path`` that is not there. Raises OperatorError where one may not be made."""
        missing: list[bytes] = []
        while path not in (b"", b"/", b".") and not await self._is_folder(path):
            missing.append(path)
            path = path.rpartition(b"/")[0]
        for folder in reversed(missing):
            try:
                with self._translated(f"cannot make the folder {_shown(folder)}"):
                    await self._sftp.mkdir(folder)
            except RetryableError:
                if not await self._is_folder(folder):  # another connection was faster: SFTP 3 has no code for "exists"
                    raise

    async def rename(self, source: bytes, target: bytes) -> None:
        """Give ``source`` the name ``target``, replacing it: in one step where the server has ``posix-rename@openssh.com``, else in two (I3)."""
        with self._translated(f"cannot rename {_shown(source)} to {_shown(target)}"):
            if self.posix_rename:
                try:
                    return await self._sftp.posix_rename(source, target)
                except asyncssh.SFTPOpUnsupported:
                    self.posix_rename = False
            try:
                await self._sftp.rename(source, target)
            except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
                with anyio.fail_after(CLEANUP_DEADLINE, shield=True):  # a cancellation must not fall between the two
                    with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                        await self._sftp.remove(target)
                    await self._sftp.rename(source, target)

    async def has_room(self, path: bytes) -> bool:
        """False only if the server says that the file system of ``path`` has no free block or inode left (it says just "Failure" on writes)."""
        try:
            with self._translated("cannot ask for room"):
                room = await self._sftp.statvfs(path)
        except (RetryableError, PermanentError):
            return True
        return room.bavail * room.frsize >= self.block and (room.files == 0 or room.favail > 0)

    async def aclose(self) -> None:
        """Say goodbye and close, within ``CLEANUP_DEADLINE``; a connection that is lost is dropped at once."""
        self._gone = True
        with anyio.move_on_after(CLEANUP_DEADLINE, shield=True):
            self.ssh.close()
            await self.ssh.wait_closed()
        self.ssh.abort()

    def abort(self) -> None:
        """Drop it without waiting."""
        self._gone = True
        self.ssh.abort()

    async def _is_folder(self, path: bytes) -> bool:
        try:
            return (await self.status(path)).type == asyncssh.FILEXFER_TYPE_DIRECTORY
        except NotFound:
            return False

    @contextmanager
    def _translated(self, doing: str) -> Generator[None, None, None]:
        try:
            yield
        except _TRANSPORT as error:
            if isinstance(error, _LOST):
                self._gone = True
            raise translate(error, f"{doing} at {self.place}") from error


async def dial(login: Login, *, place: str, window: int) -> Connection:
    """Log in and start SFTP.

    Raises:
        RetryableError: nothing answers, or not in time (scope lane).
        OperatorError: an unknown host key, a refused login, no SFTP; ``hint`` says what to do.
    """
    try:
        ssh = await login.connect()
    except _TRANSPORT as error:
        raise translate(error, f"cannot log in to {place}", scope="lane", hint=await login.hint(error)) from error
    try:
        _tune(ssh, login.options.timeout)
        with anyio.fail_after(login.options.timeout):
            sftp = await ssh.start_sftp_client()
    except BaseException as error:
        # A refusal leaves the connection open; else it broke at this moment, which says nothing about SFTP.
        hint = _NO_SFTP if isinstance(error, asyncssh.ChannelOpenError) and not ssh.is_closed() else None
        ssh.abort()
        if isinstance(error, _TRANSPORT):
            raise translate(error, f"cannot start SFTP at {place}", scope="lane", hint=hint) from error
        raise
    return Connection(ssh, sftp, place=place, window=window)


def _tune(ssh: asyncssh.SSHClientConnection, timeout: float) -> None:
    """T4: a peer that is gone is noticed. Through a proxy or a jump host there is no socket of ours to tune."""
    sock = ssh.get_extra_info("socket")
    if sock is None:
        return
    wanted = {
        "TCP_USER_TIMEOUT": round(timeout * 1000),
        "TCP_KEEPIDLE": 15,
        "TCP_KEEPINTVL": 15,
        "TCP_KEEPCNT": 4,
        "TCP_NOTSENT_LOWAT": _NOTSENT_LOWAT,
    }
    for name, value in wanted.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):  # not a TCP socket after all, or a kernel that does not know it
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _block(told: int, untold: int) -> int:
    return min(told, _LARGEST_BLOCK) if told > _TOLD_NOTHING else untold


def _as_bytes(name: str | bytes) -> bytes:
    return name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A pool at one moment: connections logged in, being dialled, calls on them, how many connections it would open at most now, and the
    bytes of WRITEs that are sent and not answered."""

    connections: int
    dialling: int
    ops: int
    ceiling: int
    unacknowledged: int


class Pool:
    """The connections of one backend, dialled when a call finds none idle, up to ``limit``; shared beyond that, never waited for.

    A call of the engine holds a slot already, so its number of calls is bounded; waiting here for a connection could only make two calls
    that need each other wait forever. State is changed in plain code between awaits only.

    Args:
        dial: opens a connection; raises our errors.
        limit: the most connections. A refused extra one lowers the ceiling for a minute and is no error (sshd's MaxStartups, or a server
            that allows fewer at once).
    """

    def __init__(self, dial: Callable[[], Awaitable[Connection]], *, limit: int = MAX_CONNECTIONS) -> None:
        self._dial = dial
        self._limit = limit
        self._ceiling = limit
        self._lowered_at = 0.0
        self._connections: list[Connection] = []
        self._dialling = 0
        self._closed = False
        self._changed = anyio.Event()

    def statistics(self) -> PoolStatistics:
        """What it holds now."""
        return PoolStatistics(
            connections=len(self._connections),
            dialling=self._dialling,
            ops=sum(c.ops for c in self._connections),
            ceiling=self._ceiling,
            unacknowledged=sum(c.unacknowledged for c in self._connections),
        )

    @asynccontextmanager
    async def acquire(self, *, brief: bool = False) -> AsyncGenerator[Connection, None]:
        """A connection for one call; after an error of the transport it is not dealt out again.

        Args:
            brief: the call moves no bodies, so it may ride on a busy connection rather than open another.
        """
        connection = await self._take(brief)
        try:
            yield connection
        finally:
            connection.ops -= 1
            if connection.lost and not connection.ops:
                connection.abort()
            self._notify()

    def drop(self) -> None:
        """Deal none of the present connections out again; idle ones are cut at once, the others when their calls have ended."""
        for connection in self._connections:
            connection.give_up()
        self._drop_lost()

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        self._closed = True
        connections, self._connections = self._connections, []
        self._notify()
        async with anyio.create_task_group() as tasks:
            for connection in connections:
                tasks.start_soon(connection.aclose)

    async def _take(self, brief: bool) -> Connection:
        while True:
            if self._closed:
                raise PermanentError("the backend is closed")
            self._drop_lost()
            connection = self._choose(brief)
            if connection is None and self._may_dial():
                connection = await self._dial_one()
            if connection is not None:
                connection.ops += 1
                return connection
            await self._changed.wait()

    def _choose(self, brief: bool) -> Connection | None:
        """An idle connection; a busy one if the call is brief or no more may be opened; None if one should be opened or waited for."""
        least = min(self._connections, key=lambda c: c.ops, default=None)
        if least is None or least.ops == 0 or brief:
            return least
        return None if len(self._connections) + self._dialling < self._raised_ceiling() else least

    def _may_dial(self) -> bool:
        return self._dialling < MAX_DIALLING and len(self._connections) + self._dialling < self._raised_ceiling()

    def _raised_ceiling(self) -> int:
        if self._ceiling < self._limit:
            now = anyio.current_time()
            if not self._connections and not self._dialling:
                self._ceiling = self._limit  # a server that came back: nothing is known about it any more
            elif now - self._lowered_at > _CEILING_RETRY:
                self._ceiling, self._lowered_at = self._ceiling + 1, now
        return self._ceiling

    async def _dial_one(self) -> Connection | None:
        """A new connection, or None if it was refused while there are others.

        A call that is refused waits for the dials of others, but does not dial again if they fail, too: else n calls to a server that is
        down would take n time limits to say so.
        """
        try:
            connection = await self._counted_dial()
        except OperatorError:
            raise
        except RetryableError:
            self._ceiling, self._lowered_at = max(1, len(self._connections) + self._dialling), anyio.current_time()
            while not self._connections and self._dialling:
                await self._changed.wait()
            if not self._connections:
                raise
            return None
        if self._closed:
            connection.abort()
            raise PermanentError("the backend is closed")
        self._connections.append(connection)
        return connection

    async def _counted_dial(self) -> Connection:
        self._dialling += 1
        try:
            return await self._dial()
        finally:
            self._dialling -= 1
            self._notify()

    def _drop_lost(self) -> None:
        """Deal lost connections out no more; one that is still in use is aborted when the last call gives it back."""
        lost = [c for c in self._connections if c.lost]
        self._connections = [c for c in self._connections if not c.lost]
        for connection in lost:
            if not connection.ops:
                connection.abort()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def connections_for(concurrency: int | None) -> tuple[int, int]:
    """How many connections for so many calls at once, and the bytes unacknowledged on each."""
    limit = MAX_CONNECTIONS if concurrency is None else max(1, min(concurrency, MAX_CONNECTIONS))
    return limit, (2 << 20 if limit <= 2 else 1 << 20)
