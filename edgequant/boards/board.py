"""What every board can do, whatever it is reached by: run, stream, send."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edgequant.boards.links import shell
from edgequant.boards.links.link import Link, LinkBrokenError, Running
from edgequant.boards.links.registry import find_link
from edgequant.boards.profile import VIRTUAL, BoardProfile, Clock
from edgequant.core.errors import (
    BoardSpaceError,
    BoardUnreachableError,
    RemoteCommandError,
    TransferError,
)
from edgequant.core.hashing import sha256_file

READ_BYTES = 1 << 16
POLL_SECONDS = 0.5
FAILURES_WITHOUT_PROGRESS = 4
RETRY_SECONDS = 1.0
# A board may need a minute to hash some gigabytes from slow storage.
HASH_BYTES_PER_SECOND = 5e6
RUN_TIMEOUT_SECONDS = 60.0
STDERR_TAIL_LINES = 12


@dataclass(frozen=True)
class CommandResult:
    """What a command on a board left behind."""

    status: int
    """Exit status; 128 and the signal's number where a signal ended it."""
    stdout: str
    stderr: str


class Board:
    """A connected board.

    A command never outlives us: when we are interrupted, or the connection is cut, it is ended.
    """

    def __init__(self, profile: BoardProfile, link: Link, *, clock: Clock = "host") -> None:
        self.profile = profile
        self.link = link
        self.clock = clock
        self._subject = f"board {profile.name}"

    def run(
        self, command: str, *, timeout_seconds: float = RUN_TIMEOUT_SECONDS, check: bool = True
    ) -> CommandResult:
        """Run a shell command and wait for it.

        Raises:
            RemoteCommandError: it took too long, or (with ``check``) its status is not 0.
            BoardUnreachableError: the connection broke, and nobody knows how far it came.
        """
        return self.stream(command, lambda _: None, timeout_seconds=timeout_seconds, check=check)

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
        with (
            self._broken_explained(f"`{shorten(command)}` ran"),
            # Leaving the block lets go of the command's leash.
            contextlib.closing(self.link.start(shell.leashed(command))) as running,
        ):
            result = self._follow(running, command, on_line, timeout_seconds)
        return checked(result, command, board=self.profile.name) if check else result

    def _follow(
        self,
        running: Running,
        command: str,
        on_line: Callable[[str], None],
        timeout_seconds: float | None,
    ) -> CommandResult:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        lines: list[str] = []
        unfinished: list[bytes] = []
        while (chunk := running.read(POLL_SECONDS)) != b"":
            if chunk:
                *whole, last = chunk.split(b"\n")
                for end in whole:
                    lines.append(b"".join([*unfinished, end]).decode(errors="replace"))
                    unfinished.clear()
                    on_line(lines[-1])
                unfinished.append(last)
            if deadline is not None and time.monotonic() > deadline:
                raise RemoteCommandError(
                    f"`{shorten(command)}` took longer than {timeout_seconds:g} s and was ended",
                    subject=self._subject,
                    next_step="see whether the board is busy, or give it more time",
                )
        rest = b"".join(unfinished).decode(errors="replace")
        if rest:
            on_line(rest)
        status = running.status()
        stdout = "".join(f"{line}\n" for line in lines) + rest
        return CommandResult(status, stdout, running.stderr())

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
            subject=self._subject,
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
            except (LinkBrokenError, BoardUnreachableError) as error:
                failures += 1
                if failures >= FAILURES_WITHOUT_PROGRESS:
                    raise self._broken(f"sending {local.name}", _reason(error)) from error
                self.link.close()
                time.sleep(RETRY_SECONDS * failures)

    def _send_from(
        self, local: Path, partial: str, offset: int, on_bytes: Callable[[int], None]
    ) -> None:
        """Send what one command's stdin takes, from a block's beginning on."""
        end = offset + (self.link.stdin_bytes or local.stat().st_size)
        start = self.link.start(shell.receive(partial, offset), data=True)
        with contextlib.closing(start) as running, local.open("rb") as stream:
            stream.seek(offset)
            done = offset
            # If writing breaks, the program on the board may have given up: its status tells.
            with contextlib.suppress(LinkBrokenError):
                while chunk := stream.read(min(READ_BYTES, end - done)):
                    running.write(chunk)
                    done += len(chunk)
                    on_bytes(done)
                running.close_stdin()
            if running.status() != 0:
                self._raise_write_error(partial, running.stderr())

    def _raise_write_error(self, partial: str, said: str) -> None:
        lines = [line for line in said.splitlines() if line.strip()]
        # dd says what is wrong first, and how much it copied after that.
        first = lines[0] if lines else "no message"
        if any(text in said for text in ("No space left", "Disk quota", "File too large")):
            raise BoardSpaceError(
                f"no room for {partial} ({first})",
                subject=self._subject,
                next_step="delete something on the board; what was sent so far is kept",
            )
        raise TransferError(
            f"cannot write {partial}: {first}",
            subject=self._subject,
            next_step="check remote_folder in the profile, and that its user may write there",
        )

    @contextlib.contextmanager
    def _broken_explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except LinkBrokenError as error:
            raise self._broken(what, str(error)) from error

    def _broken(self, what: str, reason: str) -> BoardUnreachableError:
        return BoardUnreachableError(
            f"the connection broke while {what} ({reason})",
            subject=self._subject,
            next_step="check the board and its network, and run the same command again: it goes on",
        )

    def close(self) -> None:
        """Let go of the connection; a command after it connects anew."""
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_board(profile: BoardProfile) -> Board:
    """Connect to a board.

    Raises:
        BoardUnreachableError: it does not answer.
        HostKeyError: its host key is unknown or has changed.
        AuthenticationError: it refuses the key.
        VirtualBoardError: it is virtual and not up.
    """
    if profile.kind == VIRTUAL:
        from edgequant.boards.virtual.board import open_virtual_board

        return open_virtual_board(profile)
    board = Board(profile, find_link(profile.kind)(profile))
    board.link.connect()
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


def _reason(error: BaseException) -> str:
    cause = getattr(error, "cause", None)
    return str(cause or error or type(error).__name__)
