"""A board behind SSH: strict host keys, commands that end with us, files that resume."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fabric
import paramiko

from edgequant.boards.board import (
    RUN_TIMEOUT_SECONDS,
    CommandResult,
    checked,
    quote,
    shorten,
)
from edgequant.boards.links import shell
from edgequant.boards.profile import BoardProfile, Clock
from edgequant.core.errors import (
    AuthenticationError,
    BoardSpaceError,
    BoardUnreachableError,
    HostKeyError,
    RemoteCommandError,
    TransferError,
)
from edgequant.core.hashing import sha256_file

READ_BYTES = 1 << 16
POLL_SECONDS = 0.5
STATUS_SECONDS = 20.0
KEEPALIVE_SECONDS = 10
SILENCE_MILLISECONDS = 60_000
FAILURES_WITHOUT_PROGRESS = 4
RETRY_SECONDS = 1.0
# A board may need a minute to hash some gigabytes from slow storage.
HASH_BYTES_PER_SECOND = 5e6
# From <linux/tcp.h>; the socket module lacks it on other systems.
TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)

# What paramiko reports reaches the user as our errors, not as log lines on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

Broken = (OSError, EOFError, paramiko.SSHException)


class _Strict(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """Refuse a host whose key nobody has accepted."""

    def __init__(self, board: str, known_hosts: Path) -> None:
        self._board = board
        self._known_hosts = known_hosts

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        raise HostKeyError(
            f"the host key of {hostname} is not known ({key.get_name()} {key.fingerprint})",
            subject=f"board {self._board}",
            next_step=f"compare that fingerprint with the board's, then accept it once: "
            f"{_keyscan(hostname)} >> {self._known_hosts}",
        )


def _keyscan(hostname: str) -> str:
    if hostname.startswith("["):
        host, _, port = hostname[1:].partition("]:")
        return f"ssh-keyscan -p {port} {host}"
    return f"ssh-keyscan {hostname}"


class SshBoard:
    """A :class:`~edgequant.boards.board.Board` behind an SSH server."""

    def __init__(self, profile: BoardProfile, *, use_ssh_config: bool = True) -> None:
        self.profile = profile
        self.clock: Clock = "host"
        self._use_ssh_config = use_ssh_config
        self._connection: Any = None

    # Connecting -------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect, or connect anew where the connection broke.

        Raises:
            BoardUnreachableError: the board does not answer.
            HostKeyError: its host key is unknown or has changed.
            AuthenticationError: it refuses the key.
        """
        if self._is_connected():
            return
        self.close()
        ssh = self.profile.ssh
        known_hosts = ssh.known_hosts_file or Path.home() / ".ssh" / "known_hosts"
        kwargs: dict[str, Any] = {
            "banner_timeout": ssh.connect_timeout_seconds,
            "auth_timeout": ssh.connect_timeout_seconds,
        }
        if ssh.identity_file is not None:
            # The agent may hold the unlocked form of a key that is encrypted on the disk.
            kwargs |= {"allow_agent": self._use_ssh_config, "look_for_keys": False}
            kwargs["key_filename"] = str(self._identity(ssh.identity_file))
        config = fabric.Config(overrides={"load_ssh_configs": self._use_ssh_config})
        connection = fabric.Connection(
            ssh.host,
            user=ssh.user,
            port=ssh.port,
            config=config,
            connect_timeout=ssh.connect_timeout_seconds,
            connect_kwargs=kwargs,
        )
        # fabric accepts unknown host keys by itself: that is undone here.
        connection.client.set_missing_host_key_policy(_Strict(self.profile.name, known_hosts))
        if known_hosts.is_file():
            connection.client.load_system_host_keys(str(known_hosts))
        try:
            connection.open()
            self._notice_silence(connection.transport)
        except BaseException as error:
            connection.close()
            explained = self._explained(error, connection, known_hosts)
            if explained is error:
                raise
            raise explained from error
        self._connection = connection

    def _identity(self, path: Path) -> Path:
        if not path.is_file():
            raise AuthenticationError(
                f"the profile names a key that is not there: {path}",
                subject=f"board {self.profile.name}",
                next_step="correct ssh.identity_file in the profile, or make the key",
            )
        return path

    def _is_connected(self) -> bool:
        return self._connection is not None and bool(self._connection.is_connected)

    def _notice_silence(self, transport: Any) -> None:
        """Let the kernel end a connection whose other side has been silent for a minute."""
        transport.set_keepalive(KEEPALIVE_SECONDS)
        if isinstance(transport.sock, socket.socket):
            transport.sock.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_MILLISECONDS)

    def _explained(self, error: BaseException, connection: Any, known_hosts: Path) -> BaseException:
        """Our error for one of paramiko's; others are handed back as they are."""
        address = f"{connection.user}@{connection.host} port {connection.port}"
        subject = f"board {self.profile.name}"
        if isinstance(error, paramiko.BadHostKeyException):
            return HostKeyError(
                f"the host key of {address} is not the known one: expected "
                f"{error.expected_key.fingerprint}, got {error.key.fingerprint}",
                subject=subject,
                next_step=f"if the board was set up anew, remove its old line: "
                f"ssh-keygen -f {known_hosts} -R '{error.hostname}'; otherwise somebody may be "
                "in between",
            )
        refused = isinstance(error, paramiko.AuthenticationException) or (
            isinstance(error, paramiko.SSHException) and "authentication methods" in str(error)
        )
        if refused:
            return AuthenticationError(
                f"{address} refuses the key ({error})",
                subject=subject,
                next_step="put your public key on the board (ssh-copy-id), or set ssh.user and "
                "ssh.identity_file in the profile",
            )
        if isinstance(error, socket.gaierror):
            return self._unreachable(
                f"no such host: {connection.host}", "correct ssh.host in the profile"
            )
        if isinstance(error, TimeoutError):
            return self._unreachable(
                f"{address} did not answer within {self.profile.ssh.connect_timeout_seconds:g} s",
                "check that the board is on, on this network, and at that address",
            )
        if isinstance(error, ConnectionRefusedError) or _refused(error):
            return self._unreachable(
                f"{address} refuses the connection",
                "check that an SSH server runs on the board, and its port",
            )
        if isinstance(error, Broken):
            return self._unreachable(
                f"no SSH connection to {address} ({error or type(error).__name__})",
                "check that an SSH server runs at that address and port",
            )
        return error

    def _unreachable(self, cause: str, next_step: str) -> BoardUnreachableError:
        return BoardUnreachableError(
            cause, subject=f"board {self.profile.name}", next_step=next_step
        )

    def _broken(self, what: str, error: object) -> BoardUnreachableError:
        return self._unreachable(
            f"the connection broke while {what} ({error})",
            "check the board and its network, and run the same command again: it goes on",
        )

    def _open_channel(self) -> Any:
        """A channel for one command. Nothing has been started yet, so one more try is safe."""
        self.connect()
        timeout = self.profile.ssh.connect_timeout_seconds
        try:
            return self._connection.transport.open_session(timeout=timeout)
        except Broken:
            self.close()
            self.connect()
        try:
            return self._connection.transport.open_session(timeout=timeout)
        except Broken as error:
            raise self._broken("opening a channel", error) from error

    # Commands ---------------------------------------------------------------------------------

    def run(
        self, command: str, *, timeout_seconds: float = RUN_TIMEOUT_SECONDS, check: bool = True
    ) -> CommandResult:
        """See :meth:`edgequant.boards.board.Board.run`."""
        return self.stream(command, lambda _: None, timeout_seconds=timeout_seconds, check=check)

    def stream(
        self,
        command: str,
        on_line: Callable[[str], None],
        *,
        timeout_seconds: float | None = None,
        check: bool = True,
    ) -> CommandResult:
        """See :meth:`edgequant.boards.board.Board.stream`."""
        channel = self._open_channel()
        # Leaving the block closes the channel, and with it the command's leash.
        with channel:
            try:
                channel.exec_command(shell.leashed(command))
                result = self._follow(channel, command, on_line, timeout_seconds)
            except Broken as error:
                raise self._broken(f"`{shorten(command)}` ran", error) from error
        return checked(result, command, board=self.profile.name) if check else result

    def _follow(
        self,
        channel: Any,
        command: str,
        on_line: Callable[[str], None],
        timeout_seconds: float | None,
    ) -> CommandResult:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        stderr = _Drain(channel.recv_stderr)
        channel.settimeout(POLL_SECONDS)
        lines: list[str] = []
        unfinished: list[bytes] = []
        while True:
            try:
                chunk = channel.recv(READ_BYTES)
            except TimeoutError:
                chunk = None
            if chunk == b"":
                break
            if chunk:
                *whole, last = chunk.split(b"\n")
                for end in whole:
                    lines.append(b"".join([*unfinished, end]).decode(errors="replace"))
                    unfinished.clear()
                    on_line(lines[-1])
                unfinished.append(last)
            if deadline is not None and time.monotonic() > deadline:
                channel.close()
                raise RemoteCommandError(
                    f"`{shorten(command)}` took longer than {timeout_seconds:g} s and was ended",
                    subject=f"board {self.profile.name}",
                    next_step="see whether the board is busy, or give it more time",
                )
        rest = b"".join(unfinished).decode(errors="replace")
        if rest:
            on_line(rest)
        status = self._exit_status(channel)
        stdout = "".join(f"{line}\n" for line in lines) + rest
        return CommandResult(status, stdout, stderr.text())

    def _exit_status(self, channel: Any) -> int:
        """The command's exit status; a connection that ended without one has broken."""
        if not channel.status_event.wait(STATUS_SECONDS) or channel.exit_status < 0:
            raise EOFError("the other side closed it")
        return int(channel.exit_status)

    # Files ------------------------------------------------------------------------------------

    def send(
        self,
        local: Path,
        remote: str,
        *,
        sha256: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """See :meth:`edgequant.boards.board.Board.send`."""
        expected = sha256 or sha256_file(local)
        size = local.stat().st_size
        partial = f"{remote}.partial"
        for _ in range(2):
            self._send_partial(local, partial, size, on_bytes or (lambda _: None))
            command = shell.hash_and_rename(partial, remote, expected)
            seconds = RUN_TIMEOUT_SECONDS + size / HASH_BYTES_PER_SECOND
            found = self.run(command, timeout_seconds=seconds).stdout.strip()
            if found == expected:
                return
            self.run(f"rm -f {quote(partial)}")
        raise TransferError(
            f"{local.name} arrived damaged twice: its SHA-256 is {expected}, on the board "
            f"{found or 'nothing'}",
            subject=f"board {self.profile.name}",
            next_step="does the file change while it is sent? If not, check the board's storage",
        )

    def _send_partial(
        self, local: Path, partial: str, size: int, on_bytes: Callable[[int], None]
    ) -> None:
        """Fill the partial file up to ``size``, over as many connections as it takes."""
        failures = 0
        best = -1
        while True:
            try:
                there = shell.parse_size(self.run(shell.file_size(partial)).stdout)
                if there > size:
                    self.run(f"rm -f {quote(partial)}")
                    there = -1
                if there == size:
                    on_bytes(size)
                    return
                if there > best:
                    best, failures = there, 0
                offset = max(there, 0) // shell.BLOCK_BYTES * shell.BLOCK_BYTES
                on_bytes(offset)
                self._send_from(local, partial, offset, on_bytes)
            except (*Broken, BoardUnreachableError) as error:
                failures += 1
                if failures >= FAILURES_WITHOUT_PROGRESS:
                    raise self._broken(f"sending {local.name}", _reason(error)) from error
                self.close()
                time.sleep(RETRY_SECONDS * failures)

    def _send_from(
        self, local: Path, partial: str, offset: int, on_bytes: Callable[[int], None]
    ) -> None:
        with self._open_channel() as channel, local.open("rb") as stream:
            channel.exec_command(shell.receive(partial, offset))
            stderr = _Drain(channel.recv_stderr)
            channel.settimeout(SILENCE_MILLISECONDS / 1000)
            stream.seek(offset)
            done = offset
            try:
                while chunk := stream.read(READ_BYTES):
                    channel.sendall(chunk)
                    done += len(chunk)
                    on_bytes(done)
                channel.shutdown_write()
            except OSError:
                # Either the connection broke, or the program on the board gave up and said why.
                if not channel.status_event.wait(STATUS_SECONDS / 4):
                    raise
            if self._exit_status(channel) != 0:
                self._raise_write_error(partial, stderr.text())

    def _raise_write_error(self, partial: str, said: str) -> None:
        lines = [line for line in said.splitlines() if line.strip()]
        # dd says what is wrong first, and how much it copied after that.
        first = lines[0] if lines else "no message"
        if any(text in said for text in ("No space left", "Disk quota", "File too large")):
            raise BoardSpaceError(
                f"no room for {partial} ({first})",
                subject=f"board {self.profile.name}",
                next_step="delete something on the board; what was sent so far is kept",
            )
        raise TransferError(
            f"cannot write {partial}: {first}",
            subject=f"board {self.profile.name}",
            next_step="check ssh.remote_folder in the profile, and that its user may write there",
        )

    # Ending -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the connection; a command after it connects anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Drain:
    """Reads one stream to its end beside the other, so that neither fills up and blocks."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._chunks: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = self._receive(READ_BYTES)
            except TimeoutError:
                continue
            except OSError:
                return
            if not chunk:
                return
            self._chunks.append(chunk)

    def text(self) -> str:
        """All that came; waits for the stream's end, which comes with the command's."""
        self._thread.join(STATUS_SECONDS)
        return b"".join(self._chunks).decode(errors="replace")


def _refused(error: BaseException) -> bool:
    """Whether every address of the host refused, as paramiko reports it."""
    if not isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        return False
    return all(e.errno == errno.ECONNREFUSED for e in error.errors.values())


def _reason(error: BaseException) -> str:
    cause = getattr(error, "cause", None)
    return str(cause or error or type(error).__name__)
