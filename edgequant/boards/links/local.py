"""A board that is this very machine: an ARM host, or a stand-in for tests."""

from __future__ import annotations

import errno
import os
import selectors
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from edgequant.boards.board import RUN_TIMEOUT_SECONDS, CommandResult, checked, shorten
from edgequant.boards.profile import BoardProfile, Clock
from edgequant.core.errors import (
    BoardSpaceError,
    RemoteCommandError,
    TransferError,
)
from edgequant.core.hashing import sha256_file
from edgequant.core.process import dying_with_us, stop_group

READ_BYTES = 1 << 20
POLL_SECONDS = 0.5


class LocalBoard:
    """A :class:`~edgequant.boards.board.Board` that runs commands here, in its folder."""

    def __init__(self, profile: BoardProfile) -> None:
        self.profile = profile
        self.clock: Clock = "host"
        self._folder = Path(profile.remote_folder)
        self._folder.mkdir(parents=True, exist_ok=True)

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
        process = subprocess.Popen(
            dying_with_us(["/bin/sh", "-c", command]),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            result = self._follow(process, command, on_line, timeout_seconds)
        finally:
            stop_group(process)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return checked(result, command, board=self.profile.name) if check else result

    def _follow(
        self,
        process: subprocess.Popen[bytes],
        command: str,
        on_line: Callable[[str], None],
        timeout_seconds: float | None,
    ) -> CommandResult:
        assert process.stdout is not None
        assert process.stderr is not None
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        stderr: list[bytes] = []
        drain = threading.Thread(target=_drain, args=(process.stderr, stderr), daemon=True)
        drain.start()
        stdout = b""
        shown = 0
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                ready = selector.select(POLL_SECONDS)
                if ready:
                    chunk = os.read(process.stdout.fileno(), READ_BYTES)
                    if not chunk:
                        break
                    stdout += chunk
                    while (end := stdout.find(b"\n", shown)) >= 0:
                        on_line(stdout[shown:end].decode(errors="replace"))
                        shown = end + 1
                if deadline is not None and time.monotonic() > deadline:
                    raise RemoteCommandError(
                        f"`{shorten(command)}` took longer than {timeout_seconds:g} s and was "
                        "ended",
                        subject=f"board {self.profile.name}",
                        next_step="see whether the board is busy, or give it more time",
                    )
        if shown < len(stdout):
            on_line(stdout[shown:].decode(errors="replace"))
        status = process.wait()
        drain.join(POLL_SECONDS)
        # A signal's number is negative here; on every other board it is 128 and the number.
        status = status if status >= 0 else 128 - status
        return CommandResult(
            status, stdout.decode(errors="replace"), b"".join(stderr).decode(errors="replace")
        )

    def send(
        self,
        local: Path,
        remote: str,
        *,
        sha256: str | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        """See :meth:`edgequant.boards.board.Board.send`; a copy here is quick, not resumed."""
        expected = sha256 or sha256_file(local)
        final = self._folder / remote
        partial = final.with_name(final.name + ".partial")
        done = 0
        try:
            with local.open("rb") as source, partial.open("wb") as target:
                while chunk := source.read(READ_BYTES):
                    target.write(chunk)
                    done += len(chunk)
                    if on_bytes is not None:
                        on_bytes(done)
            shutil.copymode(local, partial)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise TransferError(
                    f"cannot write {partial}: {error.strerror}",
                    subject=f"board {self.profile.name}",
                ) from error
            partial.unlink(missing_ok=True)
            raise BoardSpaceError(
                f"no room for {final} ({error.strerror})",
                subject=f"board {self.profile.name}",
                next_step="delete something on that disk",
            ) from error
        found = sha256_file(partial)
        if found != expected:
            partial.unlink()
            raise TransferError(
                f"{local.name} arrived damaged: its SHA-256 is {expected}, there {found}",
                subject=f"board {self.profile.name}",
                next_step="does the file change while it is sent?",
            )
        partial.replace(final)

    def close(self) -> None:
        """Nothing is held between commands."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _drain(stream: IO[bytes], chunks: list[bytes]) -> None:
    while chunk := stream.read(READ_BYTES):
        chunks.append(chunk)
