"""What a link to a board can do; all that a board does is written once over this.

See docs/adding-a-link.md for a link of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from edgequant.core.fields import Section

if TYPE_CHECKING:
    from edgequant.boards.profile import BoardProfile


class LinkBrokenError(Exception):
    """The connection broke: nobody knows how far the command came, and trying again may help."""


class LinkSection(Section):
    """A profile's section of a link, called after it."""

    @property
    def address(self) -> str:
        """Where the board is, for people."""
        return " ".join(str(value) for value in self.identity().values())

    def identity(self) -> dict[str, object]:
        """What makes a board another board, not what only changes how it is reached."""
        return self.model_dump(mode="json")


class Running(Protocol):
    """A command that was started on a board. Every call may raise :class:`LinkBrokenError`."""

    def read(self, seconds: float) -> bytes | None:
        """What came on stdout; empty at its end, None if nothing came within so long."""
        ...

    def write(self, data: bytes) -> None:
        """Hand all of it to the command's stdin."""
        ...

    def close_stdin(self) -> None:
        """End the command's stdin."""
        ...

    def status(self) -> int:
        """Wait for the end: the exit status; 128 and the signal's number where one ended it."""
        ...

    def stderr(self) -> str:
        """All that came on stderr, after the end."""
        ...

    def close(self) -> None:
        """Let go of the command: its stdin ends. Raises nothing."""
        ...


class Link(Protocol):
    """One way to reach a board; made from the board's profile, found by the profile's ``kind``."""

    section: ClassVar[type[LinkSection]]
    """The profile's section that is called as the link is."""
    stdin_bytes: ClassVar[int | None]
    """How much one command's stdin takes at most, None for any amount."""

    def __init__(self, profile: BoardProfile) -> None: ...

    @staticmethod
    def default_folder(board: str) -> str:
        """Where files go on a board of that name whose profile has no ``remote_folder``."""
        ...

    def connect(self) -> None:
        """Connect, or connect anew where the connection broke.

        Raises:
            BoardUnreachableError: the board does not answer.
            HostKeyError: its host key is unknown or has changed.
            AuthenticationError: it refuses us.
            ToolMissingError: the link's program is not installed here.
        """
        ...

    def start(self, command: str, *, data: bool = False) -> Running:
        """Start a command in the board's POSIX shell, connecting where that is necessary.

        Args:
            command: for ``sh -c``.
            data: its stdin is written to. Otherwise stdin only has to stay open for as long as
                we hold on to the command: it ends by itself when its stdin does.

        Raises:
            LinkBrokenError: the connection broke; errors of :meth:`connect` likewise.
        """
        ...

    def close(self) -> None:
        """Let go of the connection; a command after it connects anew."""
        ...
