"""A board behind Android's debug bridge: ``adb -s SERIAL shell``.

Written from adb's documentation and source, and tested against a program that plays it: no device
was there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgequant.boards.links.frame import Framed, framed, new_token
from edgequant.boards.links.link import LinkSection
from edgequant.boards.links.program import Program, tool, words_of
from edgequant.core.errors import AuthenticationError, BoardUnreachableError
from edgequant.core.fields import TimeoutSeconds, Word

if TYPE_CHECKING:
    from edgequant.boards.profile import BoardProfile

INSTALL = "install Android's platform tools (Debian: apt install adb)"


class AdbSection(LinkSection):
    """A board that Android's debug bridge reaches."""

    serial: Word
    """As ``adb devices`` lists it, or HOST:PORT after ``adb connect``."""
    connect_timeout_seconds: TimeoutSeconds = 15.0

    def identity(self) -> dict[str, object]:
        """The serial number alone."""
        return {"serial": self.serial}


class AdbLink:
    """A :class:`~edgequant.boards.links.link.Link` over ``adb``."""

    section: ClassVar[type[LinkSection]] = AdbSection
    stdin_bytes: ClassVar[int | None] = None

    def __init__(self, profile: BoardProfile) -> None:
        section = profile.link_section
        assert isinstance(section, AdbSection)
        self._section = section
        self._subject = f"board {profile.name}"

    @staticmethod
    def default_folder(board: str) -> str:
        """Where adb's shell may write."""
        return "/data/local/tmp/edgequant"

    def connect(self) -> None:
        """See :meth:`edgequant.boards.links.link.Link.connect`."""
        seconds = self._section.connect_timeout_seconds
        lines = words_of([*self._adb(), "get-state"], seconds).splitlines()
        # adb tells of a server that it had to start.
        said = "\n".join(line for line in lines if not line.startswith("* daemon "))
        if said.splitlines()[-1:] == ["device"]:
            return
        if "unauthorized" in said:
            raise AuthenticationError(
                "the board has not accepted this machine's adb key",
                subject=self._subject,
                next_step="accept it on the board's screen, and check: adb devices",
            )
        raise BoardUnreachableError(
            f"adb does not reach {self._section.serial} ({said or 'no answer'})",
            subject=self._subject,
            next_step="compare adb.serial in the profile with what `adb devices` lists",
        )

    def start(self, command: str, *, data: bool = False) -> Framed:
        """See :meth:`edgequant.boards.links.link.Link.start`."""
        token = new_token()
        # No terminal: it would change what goes through. One word, as adb joins words by spaces.
        return Framed(Program([*self._adb(), "shell", "-T", framed(command, token)]), token)

    def close(self) -> None:
        """The connection is adb's server's to hold."""

    def _adb(self) -> list[str]:
        return [tool("adb", INSTALL), "-s", self._section.serial]
