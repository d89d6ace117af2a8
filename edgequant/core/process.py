"""Run other programs: nothing outlives us, output is kept, failures show their last lines."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.core.errors import EdgequantError, ToolMissingError

TAIL_LINES = 25
STOP_SECONDS = 10.0

# Run by the interpreter before it becomes the program: the kernel then signals the program when we
# die, however we die. Done in a process of its own because a preexec_fn may deadlock in a program
# with threads. The interpreter ignores some signals; what is ignored stays so after the exec.
_DIE_WITH_PARENT = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, int(sys.argv[2]))\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(1)\n"
    "for ignored in (signal.SIGPIPE, signal.SIGXFSZ): signal.signal(ignored, signal.SIG_DFL)\n"
    "os.execvp(sys.argv[3], sys.argv[3:])\n"
)


def dying_with_us(command: Sequence[str | Path], signal_number: int = signal.SIGKILL) -> list[str]:
    """The command line of a program that the kernel ends when we die without stopping it.

    More exactly: when the thread that starts it ends. The program must exist: what starts is this
    interpreter, which then becomes the program (under the same process id).

    Args:
        command: the program (a path, or a name on the PATH) and its arguments.
        signal_number: what the program gets; its own children get nothing, so one that ends
            them itself when asked politely is sent SIGTERM.
    """
    shim = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
    return [*shim, str(int(signal_number)), *map(str, command)]


@dataclass(frozen=True)
class Captured:
    """How a short run ended."""

    status: int | None
    """Exit status, negative for a signal; None: it was still running when its time was up."""
    output: str
    """Both streams, or stdout alone where they were kept apart."""
    errors: str = ""
    """What came on stderr where the streams were kept apart."""

    @property
    def failure(self) -> str:
        """How it failed, for a message: the last line of its errors, if there is one."""
        how = "no answer in time" if self.status is None else f"exit status {self.status}"
        lines = (self.errors or self.output).strip().splitlines()
        return f"{how}: {lines[-1].strip()}" if lines else how


def run_captured(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    apart: bool = False,
) -> Captured:
    """Run a short command without input; it and its children end with it, and with us.

    Args:
        argv: the program, which must exist, and its arguments.
        timeout_seconds: it is ended after so long.
        cwd: where it runs.
        env: its environment, by default ours.
        apart: keep stdout and stderr apart.
    """
    process = subprocess.Popen(
        dying_with_us(argv),
        cwd=cwd,
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if apart else subprocess.STDOUT,
        start_new_session=True,
    )
    status: int | None = None
    try:
        output, errors = process.communicate(timeout=timeout_seconds)
        status = process.returncode
    except subprocess.TimeoutExpired as late:
        output, errors = late.stdout or b"", late.stderr or b""
    finally:
        stop_group(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    return Captured(
        status, output.decode(errors="replace"), (errors or b"").decode(errors="replace")
    )


def stop_group(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """End a process started with ``start_new_session`` and all its children.

    The children also where the process itself has ended, unless somebody has waited for it: its
    id, which is the group's, may then be another's.
    """
    if process.returncode is not None:
        return
    _signal_group(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also on a second Ctrl-C, and for children that took no notice.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


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

    It is ended when we are interrupted, and by the kernel when we are killed.

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
    if shutil.which(command[0], path=None if env is None else env.get("PATH")) is None:
        raise ToolMissingError(
            f"{command[0]} is not installed",
            next_step="edgequant doctor names the package that has it",
        )
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as stream:
        stream.write("$ " + " ".join(command) + "\n")
        stream.flush()
        process = subprocess.Popen(
            # Politely: ninja and its like then end what they started.
            dying_with_us(command, signal.SIGTERM),
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
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
