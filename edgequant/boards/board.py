"""What every board can do, whatever it is reached by: run, stream, send."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from edgequant.boards.profile import BoardProfile, Clock
from edgequant.core.errors import RemoteCommandError

RUN_TIMEOUT_SECONDS = 60.0
STDERR_TAIL_LINES = 12


@dataclass(frozen=True)
class CommandResult:
    """What a command on a board left behind."""

    status: int
    """Exit status; 128 and the signal's number where a signal ended it."""
    stdout: str
    stderr: str


class Board(Protocol):
    """A connected board.

    A command never outlives us: when we are interrupted, or the connection is cut, it is ended.
    """

    profile: BoardProfile
    clock: Clock

    def run(
        self, command: str, *, timeout_seconds: float = RUN_TIMEOUT_SECONDS, check: bool = True
    ) -> CommandResult:
        """Run a shell command and wait for it.

        Raises:
            RemoteCommandError: it took too long, or (with ``check``) its status is not 0.
            BoardUnreachableError: the connection broke, and nobody knows how far it came.
        """
        ...

    def stream(
        self,
        command: str,
        on_line: Callable[[str], None],
        *,
        timeout_seconds: float | None = None,
        check: bool = True,
    ) -> CommandResult:
        """Run a shell command, handing over each line of its stdout as it comes.

        Raises:
            RemoteCommandError: it took too long, or (with ``check``) its status is not 0.
            BoardUnreachableError: the connection broke.
        """
        ...

    def send(
        self,
        local: Path,
        remote: str,
        *,
        sha256: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """Copy a file so that it is at ``remote`` whole, or not at all.

        It goes to ``remote.partial`` first; what lies there from an earlier try is kept, and only
        the rest is sent. Its SHA-256 is checked on the board before it is renamed.

        Args:
            local: the file here.
            remote: path on the board; its folder must exist.
            sha256: the file's hash, where the caller has it already.
            on_bytes: called with how many bytes lie there in all.

        Raises:
            TransferError: it arrived damaged twice.
            BoardSpaceError: the board's disk is full.
            BoardUnreachableError: the connection broke and did not come back.
        """
        ...

    def close(self) -> None:
        """Let go of the connection; a command after it connects anew."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_board(profile: BoardProfile) -> Board:
    """Connect to a board.

    Raises:
        BoardUnreachableError: it does not answer.
        HostKeyError: its host key is unknown or has changed.
        AuthenticationError: it refuses the key.
        VirtualBoardError: it is virtual and not up.
    """
    if profile.kind == "local":
        from edgequant.boards.links.local import LocalBoard

        return LocalBoard(profile)
    if profile.kind == "virtual":
        from edgequant.boards.virtual.board import open_virtual_board

        return open_virtual_board(profile)
    from edgequant.boards.links.ssh import SshBoard

    board = SshBoard(profile)
    board.connect()
    return board


def quote(path: str) -> str:
    """One word for the board's shell."""
    return shlex.quote(path)


def checked(result: CommandResult, command: str, *, board: str) -> CommandResult:
    """The result, if its status is 0.

    Raises:
        RemoteCommandError: with the last lines of what the command printed.
    """
    if result.status == 0:
        return result
    tail = (result.stderr or result.stdout).strip().splitlines()[-STDERR_TAIL_LINES:]
    said = ":\n  " + "\n  ".join(tail) if tail else " and printed nothing"
    raise RemoteCommandError(
        f"`{shorten(command)}` {describe_status(result.status)}{said}", subject=f"board {board}"
    )


def shorten(command: str, width: int = 120) -> str:
    """A command on one line, cut where it is long."""
    line = " ".join(command.split())
    return line if len(line) <= width else line[: width - 1] + "…"


_SIGNALS = {
    132: "was ended by an illegal instruction (the binary was built for another CPU?)",
    134: "aborted",
    135: "was ended by a bus error (the disk failed or filled up under a mapped file?)",
    137: "was killed (out of memory?)",
    139: "crashed (segmentation fault)",
    143: "was ended",
    126: "cannot be run (not an executable for this board?)",
    127: "was not found",
}


def describe_status(status: int) -> str:
    """What an exit status says, in words."""
    words = _SIGNALS.get(status)
    return f"{words} (exit status {status})" if words else f"failed with exit status {status}"
