"""Run other programs: nothing outlives us, output is kept, failures show their last lines."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgequant.core.errors import EdgequantError, ToolMissingError

TAIL_LINES = 25
STOP_SECONDS = 10.0


def stop_group(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process started with ``start_new_session`` and all its children."""
    if process.poll() is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_logged(
    argv: Sequence[str | Path],
    *,
    log: Path,
    error: type[EdgequantError],
    what: str,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    next_step: str | None = None,
) -> None:
    """Run a program to its end, all its output appended to a log file.

    Args:
        argv: the program and its arguments.
        log: file that the output (both streams) is appended to.
        error: class raised when the program fails.
        what: what the program does, for the message ("compiling the probe").
        cwd: folder to run in.
        env: the whole environment, by default ours.
        on_line: called with each line of output, for progress.
        next_step: what the user can do when it fails.

    Raises:
        ToolMissingError: there is no such program.
        EdgequantError: of class ``error``, with the last lines, when the exit status is not 0.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    command = [str(a) for a in argv]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.write("$ " + " ".join(command) + "\n")
        stream.flush()
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except FileNotFoundError:
            raise ToolMissingError(
                f"{command[0]} is not installed",
                next_step="edgequant doctor names the package that has it",
            ) from None
        try:
            assert process.stdout is not None
            for line in process.stdout:
                stream.write(line)
                tail.append(line.rstrip("\n"))
                if on_line is not None:
                    on_line(line.rstrip("\n"))
            status = process.wait()
        finally:
            stop_group(process)
    if status != 0:
        raise error(
            f"{what} failed with exit status {status}; its last lines:\n  " + "\n  ".join(tail),
            subject=log,
            next_step=next_step or f"read the whole log: {log}",
        )
