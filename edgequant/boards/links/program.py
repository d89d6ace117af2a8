"""A command behind a program of this machine: its pipes are the command's."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from edgequant.boards.links.link import LinkBrokenError
from edgequant.core.errors import ToolMissingError
from edgequant.core.process import run_captured, stop_group

READ_BYTES = 1 << 16
SILENCE_SECONDS = 60.0
STATUS_SECONDS = 20.0
# The leash gives a command two seconds to end by itself.
LET_GO_SECONDS = 4.0


class Program:
    """A :class:`~edgequant.boards.links.link.Running` command that a program here speaks for."""

    def __init__(self, argv: Sequence[str], *, cwd: Path | None = None) -> None:
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        os.set_blocking(self._stdin.fileno(), False)
        self._stderr = Drain(self._process.stderr.read)

    def read(self, seconds: float) -> bytes | None:
        """See :meth:`edgequant.boards.links.link.Running.read`."""
        if not select.select([self._stdout], [], [], seconds)[0]:
            return None
        return os.read(self._stdout.fileno(), READ_BYTES)

    def write(self, data: bytes) -> None:
        """See :meth:`edgequant.boards.links.link.Running.write`."""
        rest = memoryview(data)
        while rest:
            if not select.select([], [self._stdin], [], SILENCE_SECONDS)[1]:
                raise LinkBrokenError(f"nothing was taken for {SILENCE_SECONDS:.0f} s")
            try:
                rest = rest[os.write(self._stdin.fileno(), rest) :]
            except OSError as error:
                raise LinkBrokenError(error.strerror or str(error)) from error

    def close_stdin(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close_stdin`."""
        self._stdin.close()

    def status(self) -> int:
        """See :meth:`edgequant.boards.links.link.Running.status`."""
        # Something that still holds stdout may write until the end.
        deadline = time.monotonic() + SILENCE_SECONDS
        while self.read(STATUS_SECONDS) and time.monotonic() < deadline:
            pass
        try:
            status = self._process.wait(STATUS_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise LinkBrokenError("it closed its output and did not end") from error
        return status if status >= 0 else 128 - status

    def stderr(self) -> str:
        """See :meth:`edgequant.boards.links.link.Running.stderr`."""
        return self._stderr.text()

    def close(self) -> None:
        """See :meth:`edgequant.boards.links.link.Running.close`."""
        self._stdin.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LET_GO_SECONDS)
        finally:
            stop_group(self._process)
            self._stdout.close()


class Drain:
    """Reads one stream to its end beside the other, so that neither fills up and blocks."""

    def __init__(self, receive: Callable[[int], bytes | None]) -> None:
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
            except (OSError, ValueError):
                return
            if not chunk:
                return
            self._chunks.append(chunk)

    def text(self) -> str:
        """All that came; waits for the stream's end, which comes with the command's."""
        self._thread.join(STATUS_SECONDS)
        return b"".join(self._chunks).decode(errors="replace")


def tool(name: str, install: str) -> str:
    """The path of a link's program.

    Args:
        name: as it is found on the PATH.
        install: what to do where it is not.

    Raises:
        ToolMissingError: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise ToolMissingError(f"{name} is not installed", next_step=install)
    return found


def words_of(argv: Sequence[str], seconds: float) -> str:
    """All that a short call of a link's program prints, on both streams; it is ended after so long.

    Their exit statuses say little: some end with 0 whatever happened.
    """
    return run_captured(argv, timeout_seconds=seconds).output.strip()
