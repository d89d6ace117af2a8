"""A board behind SSH, with strict host keys."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from edgequant.boards.links.link import LinkBrokenError, LinkSection
from edgequant.boards.links.program import READ_BYTES, STATUS_SECONDS, Drain
from edgequant.core.errors import AuthenticationError, BoardUnreachableError, HostKeyError
from edgequant.core.fields import FilePath, TimeoutSeconds, Word

if TYPE_CHECKING:
    from edgequant.boards.profile import BoardProfile

KEEPALIVE_SECONDS = 10
SILENCE_MILLISECONDS = 60_000
# From <linux/tcp.h>; the socket module lacks it on other systems.
TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)

# What paramiko reports reaches the user as our errors, not as log lines on stderr.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class SshSection(LinkSection):
    """A board that has an SSH server."""

    host: Word = "127.0.0.1"
    """Name, address, or an alias of the user's own SSH configuration."""
    port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    user: Word | None = None
    identity_file: FilePath | None = None
    known_hosts_file: FilePath | None = None
    """By default the user's own, ``~/.ssh/known_hosts``."""
    connect_timeout_seconds: TimeoutSeconds = 15.0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}" if self.port else self.host

    def identity(self) -> dict[str, object]:
        """Not the keys, nor the user."""
        return {"host": self.host, "port": self.port}


class SshLink:
    """A :class:`~edgequant.boards.links.link.Link` to an SSH server."""

    section: ClassVar[type[LinkSection]] = SshSection
    stdin_bytes: ClassVar[int | None] = None

    def __init__(self, profile: BoardProfile, *, use_ssh_config: bool = True) -> None:
        section = profile.link_section
        assert isinstance(section, SshSection)
        self._ssh = section
        self._subject = f"board {profile.name}"
        self._use_ssh_config = use_ssh_config
        self._connection: Any = None

    @staticmethod
    def default_folder(board: str) -> str:
        """In the user's home there."""
        return "edgequant"

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
        import fabric

        ssh = self._ssh
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
        connection.client.set_missing_host_key_policy(_strict_policy(self._subject, known_hosts))
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
                subject=self._subject,
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
        import paramiko

        address = f"{connection.user}@{connection.host} port {connection.port}"
        subject = self._subject
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
                f"{address} did not answer within {self._ssh.connect_timeout_seconds:g} s",
                "check that the board is on, on this network, and at that address",
            )
        if isinstance(error, ConnectionRefusedError) or _refused(error):
            return self._unreachable(
                f"{address} refuses the connection",
                "check that an SSH server runs on the board, and its port",
            )
        if isinstance(error, (OSError, EOFError, paramiko.SSHException)):
            return self._unreachable(
                f"no SSH connection to {address} ({error or type(error).__name__})",
                "check that an SSH server runs at that address and port",
            )
        return error

    def _unreachable(self, cause: str, next_step: str) -> BoardUnreachableError:
        return BoardUnreachableError(cause, subject=self._subject, next_step=next_step)

    def start(self, command: str, *, data: bool = False) -> _Channel:
        """See :meth:`edgequant.boards.links.link.Link.start`."""
        channel = self._open_channel()
        try:
            with _broken_explained():
                channel.exec_command(command)
        except BaseException:
            channel.close()
            raise
        return _Channel(channel)

    def _open_channel(self) -> Any:
        """A channel for one command. Nothing has been started yet, so one more try is safe."""
        self.connect()
        timeout = self._ssh.connect_timeout_seconds
        open_session = partial(self._connection.transport.open_session, timeout=timeout)
        with contextlib.suppress(LinkBrokenError), _broken_explained():
            return open_session()
        self.close()
        self.connect()
        with _broken_explained():
            return self._connection.transport.open_session(timeout=timeout)

    def close(self) -> None:
        """See :meth:`edgequant.boards.links.link.Link.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Channel:
    """A :class:`~edgequant.boards.links.link.Running` command of an SSH connection."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._stderr = Drain(channel.recv_stderr)

    def read(self, seconds: float) -> bytes | None:
        """See :meth:`edgequant.boards.links.link.Running.read`."""
        self._channel.settimeout(seconds)
        with _broken_explained():
            try:
                return bytes(self._channel.recv(READ_BYTES))
            except TimeoutError:
                return None

    def write(self, data: bytes) -> None:
        """See :meth:`edgequant.boards.links.link.Running.write`."""
        self._channel.settimeout(SILENCE_MILLISECONDS / 1000)
        with _broken_explained():
            self._channel.sendall(data)

    def close_stdin(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close_stdin`."""
        with _broken_explained():
            self._channel.shutdown_write()

    def status(self) -> int:
        """See :meth:`edgequant.boards.links.link.Running.status`."""
        if not self._channel.status_event.wait(STATUS_SECONDS) or self._channel.exit_status < 0:
            raise LinkBrokenError("the other side closed it")
        return int(self._channel.exit_status)

    def stderr(self) -> str:
        """See :meth:`edgequant.boards.links.link.Running.stderr`."""
        return self._stderr.text()

    def close(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close`."""
        with contextlib.suppress(LinkBrokenError), _broken_explained():
            self._channel.close()


@contextlib.contextmanager
def _broken_explained() -> Iterator[None]:
    """What paramiko raises of a connection that broke, as every link does."""
    import paramiko

    try:
        yield
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise LinkBrokenError(str(error) or type(error).__name__) from error


def _strict_policy(subject: str, known_hosts: Path) -> Any:
    """What refuses a host whose key nobody has accepted."""
    import paramiko

    class Strict(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            raise HostKeyError(
                f"the host key of {hostname} is not known ({key.get_name()} {key.fingerprint})",
                subject=subject,
                next_step=f"compare that fingerprint with the board's, then accept it once: "
                f"{_keyscan(hostname)} >> {known_hosts}",
            )

    return Strict()


def _keyscan(hostname: str) -> str:
    if hostname.startswith("["):
        host, _, port = hostname[1:].partition("]:")
        return f"ssh-keyscan -p {port} {host}"
    return f"ssh-keyscan {hostname}"


def _refused(error: BaseException) -> bool:
    """Whether every address of the host refused, as paramiko reports it."""
    import paramiko

    if not isinstance(error, paramiko.ssh_exception.NoValidConnectionsError):
        return False
    return all(e.errno == errno.ECONNREFUSED for e in error.errors.values())
