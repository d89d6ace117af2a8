"""A board that is this very machine: an ARM host, or a stand-in for tests."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from edgequant.boards.links.link import LinkSection
from edgequant.boards.links.program import Program
from edgequant.boards.profile import BoardProfile
from edgequant.core.paths import cache_root


class LocalSection(LinkSection):
    """A board that is this very machine."""

    @property
    def address(self) -> str:
        return "this machine"


class LocalLink:
    """A :class:`~edgequant.boards.links.link.Link` that runs commands here."""

    section: ClassVar[type[LinkSection]] = LocalSection
    stdin_bytes: ClassVar[int | None] = None

    def __init__(self, profile: BoardProfile) -> None:
        pass

    @staticmethod
    def default_folder(board: str) -> str:
        """A folder in the cache."""
        return str(cache_root() / "local" / board)

    def connect(self) -> None:
        """This machine is there."""

    def start(self, command: str, *, data: bool = False) -> Program:
        """See :meth:`edgequant.boards.links.link.Link.start`."""
        return Program(["/bin/sh", "-c", command], cwd=Path.home())

    def close(self) -> None:
        """Nothing is held between commands."""
