"""One SSH connection with its SFTP session, that speaks in our errors. Nothing here knows what an object of a backend is; paths are bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
import asyncssh

from asyncdup.backends.base import LinkSigns
from asyncdup.backends.sftp import packets as wire
from asyncdup.backends.sftp.depth import Depth
from asyncdup.backends.sftp.login import Login
from asyncdup.backends.sftp.packets import Attributes
from asyncdup.backends.sftp.session import RECEIVE_WINDOW, Answer, Session
from asyncdup.backends.sftp.ssh_errors import LOST, TRANSPORT, translate
from asyncdup.backends.sftp.ssh_socket import acknowledge_at_once, tune
from asyncdup.backends.tcp import read_signs
from asyncdup.errors import BackendError, NotFound, PermanentError, RetryableError

CLEANUP_DEADLINE = 1.5  # seconds that tidying up after a cancelled or failed call may take; Ctrl-C ends within 2 (G9)

_BLOCK = 128 << 10  # bytes (performance, section 10.1): the larger, the fewer steps; the smaller, the later it is bound to a connection
_UNTOLD = 32 << 10  # bytes that every server takes and gives at once (draft-ietf-secsh-filexfer-02, section 3)
_OLD_OPENSSH = 64 << 10
_LISTING_AHEAD = 4  # READDIRs in flight, of 100 names each, to a server that is known to answer one after the other

_NO_SFTP = "the server lets this user log in, but offers no SFTP: switch the subsystem on"

Done = Callable[[BackendError | None], None]
Got = Callable[[bytes, BackendError | None], None]


@dataclass(frozen=True, slots=True)
class File:
    """An open file on the server of ``connection``."""

    connection: Connection
    handle: bytes


class Connection:
    """One logged-in connection with one SFTP session. Every method raises our errors only.

    Attributes:
        ops: calls of the backend that are using it now; changed by the pool only.
        unanswered: bytes of WRITEs and of what READs ask for, over all its files, sent and not answered; at most ``window``, or one block if
            that is larger. Counted by ``reserve``.
        block: bytes of one WRITE or READ, at most.
        one_file_system: the server is known to work on files as a kernel has them, so several handles of one file see the same bytes.
        ssh: asyncssh's connection below it.
        on_room: called when ``unanswered`` has fallen.
    """

    def __init__(self, ssh: asyncssh.SSHClientConnection, sftp: Session, *, place: str, window: int) -> None:
        self.place = place
        self.window = window
        self.ops = 0
        self.unanswered = 0
        self._depth = Depth(window)
        version = str(ssh.get_extra_info("server_version", ""))
        # OpenSSH takes 256 KiB a packet, whether it tells or not, but before 8.5, when it did not, it gives at most 64 KiB; asyncssh more.
        self.one_file_system = "OpenSSH" in version or "AsyncSSH" in version
        self.block = _OLD_OPENSSH if self.one_file_system else _UNTOLD
        self.on_room: Callable[[], None] = _nothing
        self.ssh = ssh
        self._gone = False
        self._sftp = sftp
        self._listing_ahead = _LISTING_AHEAD if "OpenSSH" in version else 1
        self._posix_rename = True
        sftp.version.when_arrived(self._greeted)

    @property
    def lost(self) -> bool:
        """It can carry nothing any more; never again False."""
        return self._gone or self.ssh.is_closed()

    def give_up(self) -> None:
        """Use it no more: it does not answer."""
        self._gone = True

    def signs(self) -> LinkSigns | None:
        """What is known of the way to the server now."""
        return read_signs(self.ssh.get_extra_info("socket"))

    def has_room(self, size: int) -> bool:
        """Whether ``size`` more bytes may be asked for or sent."""
        return not self.unanswered or self.unanswered + size <= self._depth.bytes

    def reserve(self, size: int) -> None:
        """Count ``size`` more bytes. ``release`` gives them back."""
        self.unanswered += size

    def release(self, size: int) -> None:
        """``size`` bytes were answered, or will never be."""
        self.unanswered -= size
        self.on_room()

    async def create(self, path: bytes) -> File:
        """A new file at ``path``, open for writing. Raises NotFound if its folder is not there."""
        return await self._open(path, wire.NEW_FILE, f"cannot create {_shown(path)}")

    async def open(self, path: bytes, *, for_writing: bool = False) -> File:
        """The file at ``path``, which must be there."""
        return await self._open(path, wire.FOR_WRITING if for_writing else wire.FOR_READING, f"cannot open {_shown(path)}")

    def write(self, file: File, block: bytes, offset: int, done: Done) -> None:
        """Send one WRITE, whose bytes are reserved; ``done`` is called when it was answered, and they are released."""

        def answered(answer: Answer) -> None:
            error = self._failure(lambda: answer.expect(wire.STATUS), "cannot write")
            done(error)
            signs = self.signs()
            if signs is not None:
                self._depth.may_send(signs.window)
            else:
                self._depth.answered(len(block), anyio.current_time() - sent, block=self.block)
            self.release(len(block))

        sent = anyio.current_time()
        with self._translated("cannot write"):
            self._sftp.send(wire.WRITE, wire.part_of(file.handle, offset, len(block)), block, then=answered)

    def read(self, file: File, size: int, offset: int, got: Got) -> None:
        """Send one READ, whose bytes are reserved; ``got`` is called with at most ``size`` bytes, none at the end, and they are released."""

        def answered(answer: Answer) -> None:
            data = b""

            def take() -> None:
                nonlocal data
                data = answer.data

            error = self._failure(take, "cannot read")
            got(data[:size], error)
            self._depth.answered(len(data), anyio.current_time() - sent, block=self.block)
            self.release(size)

        sent = anyio.current_time()
        with self._translated("cannot read"):
            self._sftp.send(wire.READ, wire.part_of(file.handle, offset, size), then=answered)

    def ask_sync(self, file: File) -> Answer | None:
        """Ask to make what was written durable, where the server offers it (P6). To be given to ``succeeded``."""
        if b"fsync@openssh.com" not in self._sftp.extensions:
            return None
        with self._translated("cannot fsync"):
            return self._sftp.send(wire.EXTENDED, wire.text(b"fsync@openssh.com"), wire.text(file.handle))

    def ask_status(self, file: File) -> Answer:
        """Ask for size and times as the server has them. To be given to ``status_of``."""
        with self._translated("cannot stat"):
            return self._sftp.send(wire.FSTAT, wire.text(file.handle))

    def ask_close(self, file: File) -> Answer:
        """Ask to close ``file``. To be given to ``succeeded``, or to be forgotten."""
        with self._translated("cannot close"):
            return self._sftp.send(wire.CLOSE, wire.text(file.handle))

    async def succeeded(self, answer: Answer | None, doing: str) -> bool:
        """Wait for an answer that is no more than "OK". False, and no error: nothing was asked, or the server does not know it after all."""
        if answer is None:
            return False
        await answer.wait()
        with self._translated(doing):
            try:
                answer.expect(wire.STATUS)
            except asyncssh.SFTPOpUnsupported:
                return False
        return True

    async def status_of(self, answer: Answer) -> Attributes:
        """Wait for size and times."""
        await answer.wait()
        with self._translated("cannot stat"):
            return answer.expect(wire.ATTRS).attributes()

    async def status(self, path: bytes) -> Attributes:
        """Kind, size and times of what is at ``path``. Raises NotFound."""
        with self._translated(f"cannot stat {_shown(path)}"):
            return (await self._sftp.ask(wire.STAT, wire.text(path))).expect(wire.ATTRS).attributes()

    async def listing(self, path: bytes) -> AsyncGenerator[tuple[bytes, Attributes], None]:
        """Name and attributes of each entry of the folder ``path``, in no order. Close it with ``aclosing``."""
        with self._translated(f"cannot list {_shown(path)}"):
            handle = await self._handle(wire.OPENDIR, wire.text(path))
            try:
                ended = False
                while not ended:
                    answers = [self._sftp.send(wire.READDIR, wire.text(handle)) for _ in range(self._listing_ahead)]
                    for answer in answers:
                        await answer.wait()
                        if isinstance(answer.error, asyncssh.SFTPEOFError):
                            ended = True
                        elif not ended:
                            for entry in answer.expect(wire.NAME).names():
                                yield entry
            finally:
                self._forget(handle)

    async def remove(self, path: bytes) -> None:
        """Remove the file. Raises NotFound."""
        await self._do(f"cannot delete {_shown(path)}", wire.REMOVE, wire.text(path))

    async def make_folder(self, path: bytes) -> None:
        """``mkdir -p``: every folder on the way to ``path`` that is not there. Raises OperatorError where one may not be made."""
        missing: list[bytes] = []
        while path not in (b"", b"/", b".") and not await self._is_folder(path):
            missing.append(path)
            path = path.rpartition(b"/")[0]
        for folder in reversed(missing):
            try:
                await self._do(f"cannot make the folder {_shown(folder)}", wire.MKDIR, wire.text(folder), wire.no_attributes())
            except RetryableError:
                if not await self._is_folder(folder):  # another connection was faster: SFTP 3 has no code for "exists"
                    raise

    async def rename(self, source: bytes, target: bytes) -> None:
        """Give ``source`` the name ``target``, replacing it: in one step where the server has ``posix-rename@openssh.com``, else in two (I3)."""
        names = wire.text(source), wire.text(target)
        with self._translated(f"cannot rename {_shown(source)} to {_shown(target)}"):
            await self._sftp.version.wait()
            if self._posix_rename and b"posix-rename@openssh.com" in self._sftp.extensions:
                try:
                    return await self._ok(wire.EXTENDED, wire.text(b"posix-rename@openssh.com"), *names)
                except asyncssh.SFTPOpUnsupported:
                    self._posix_rename = False
            try:
                await self._ok(wire.RENAME, *names)
            except (asyncssh.SFTPFailure, asyncssh.SFTPFileAlreadyExists):
                with anyio.fail_after(CLEANUP_DEADLINE, shield=True):  # a cancellation must not fall between the two
                    with contextlib.suppress(asyncssh.SFTPNoSuchFile):
                        await self._ok(wire.REMOVE, wire.text(target))
                    await self._ok(wire.RENAME, *names)

    async def has_free_space(self, path: bytes) -> bool:
        """False only if the server says that the file system of ``path`` has no free block or inode left (it says just "Failure" on writes)."""
        if b"statvfs@openssh.com" not in self._sftp.extensions:
            return True
        try:
            with self._translated("cannot ask for room"):
                answer = await self._sftp.ask(wire.EXTENDED, wire.text(b"statvfs@openssh.com"), wire.text(path))
                return answer.expect(wire.EXTENDED_REPLY).has_room(self.block)
        except (RetryableError, PermanentError):
            return True

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

    async def _open(self, path: bytes, flags: int, doing: str) -> File:
        with self._translated(doing):
            return File(self, await self._handle(wire.OPEN, wire.open_file(path, flags)))

    async def _handle(self, kind: int, arguments: bytes) -> bytes:
        answer = self._sftp.send(kind, arguments)
        try:
            await answer.wait()
        except BaseException:
            answer.when_arrived(self._orphaned)  # else it would stay open as long as the connection lives
            raise
        return answer.expect(wire.HANDLE).text()

    def _orphaned(self, answer: Answer) -> None:
        with contextlib.suppress(wire.Malformed, *TRANSPORT):
            self._forget(answer.expect(wire.HANDLE).text())

    def _forget(self, handle: bytes) -> None:
        with contextlib.suppress(asyncssh.Error):
            self._sftp.send(wire.CLOSE, wire.text(handle))

    def _greeted(self, answer: Answer) -> None:
        if answer.error is None and b"limits@openssh.com" in self._sftp.extensions:
            self.block = _BLOCK if self.one_file_system else _UNTOLD
            with contextlib.suppress(asyncssh.Error):
                self._sftp.send(wire.EXTENDED, wire.text(b"limits@openssh.com"), then=self._limited)

    def _limited(self, answer: Answer) -> None:
        with contextlib.suppress(wire.Malformed, *TRANSPORT):
            read, write = answer.expect(wire.EXTENDED_REPLY).limits()
            told = [limit for limit in (read, write) if limit]
            self.block = min([_BLOCK, *told]) if told else self.block

    async def _do(self, doing: str, kind: int, *arguments: bytes) -> None:
        with self._translated(doing):
            await self._ok(kind, *arguments)

    async def _ok(self, kind: int, *arguments: bytes) -> None:
        (await self._sftp.ask(kind, *arguments)).expect(wire.STATUS)

    async def _is_folder(self, path: bytes) -> bool:
        try:
            return (await self.status(path)).is_folder
        except NotFound:
            return False

    def _failure(self, look: Callable[[], object], doing: str) -> BackendError | None:
        try:
            with self._translated(doing):
                look()
        except BackendError as error:
            return error
        return None

    @contextmanager
    def _translated(self, doing: str) -> Generator[None, None, None]:
        try:
            yield
        except wire.Malformed as error:
            self._gone = True
            raise translate(asyncssh.SFTPBadMessage(str(error)), f"{doing} at {self.place}") from error
        except TRANSPORT as error:
            if isinstance(error, LOST):
                self._gone = True
            if self._gone and not self._sftp.version.kind:
                raise translate(error, f"cannot start SFTP at {self.place}", scope="lane") from error
            raise translate(error, f"{doing} at {self.place}") from error


async def dial(login: Login, *, place: str, window: int) -> Connection:
    """Log in and start SFTP.

    Raises:
        RetryableError: nothing answers, or not in time (scope lane).
        OperatorError: an unknown host key, a refused login, no SFTP; ``hint`` says what to do.
    """
    try:
        ssh = await login.connect()
    except TRANSPORT as error:
        raise translate(error, f"cannot log in to {place}", scope="lane", hint=await login.hint(error)) from error
    try:
        tune(ssh.get_extra_info("socket"), login.options.timeout, congestion=login.options.settings.get("tcp_congestion"))
        with anyio.fail_after(login.options.timeout):
            sftp = Session(login.options.timeout)
            # Behind the request for the channel: sshd has other things to say first, and its answer would wait until they are acknowledged.
            asyncio.get_running_loop().call_soon(acknowledge_at_once, ssh.get_extra_info("socket"))
            await ssh.create_session(lambda: sftp, subsystem="sftp", encoding=None, window=RECEIVE_WINDOW)
    except BaseException as error:
        # A refusal leaves the connection open; else it broke at this moment, which says nothing about SFTP.
        hint = _NO_SFTP if isinstance(error, asyncssh.ChannelOpenError) and not ssh.is_closed() else None
        ssh.abort()
        if isinstance(error, TRANSPORT):
            raise translate(error, f"cannot start SFTP at {place}", scope="lane", hint=hint) from error
        raise
    return Connection(ssh, sftp, place=place, window=window)


def _nothing() -> None: ...


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
