"""Programs we run: output kept, failures explained, nothing left running."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from edgequant.core.errors import BuildError, ToolMissingError
from edgequant.core.process import run_logged


def test_output_goes_to_the_log_and_to_the_callback(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "log"
    run_logged(
        ["sh", "-c", "echo one; echo two >&2"],
        log=log,
        error=BuildError,
        what="x",
        on_line=lines.append,
    )
    assert sorted(lines) == ["one", "two"]
    assert "one\n" in log.read_text()


def test_a_failure_shows_the_last_lines(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="the cause") as caught:
        run_logged(
            ["sh", "-c", "echo the cause; exit 3"],
            log=tmp_path / "log",
            error=BuildError,
            what="compiling",
        )
    assert "status 3" in str(caught.value)


def test_a_missing_program_has_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(ToolMissingError):
        run_logged(["no-such-program-here"], log=tmp_path / "log", error=BuildError, what="x")


def test_an_interruption_stops_the_whole_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def interrupt_when_running() -> None:
        while not (pid_file.exists() and pid_file.read_text().strip()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_running)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_logged(
            ["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"],
            log=tmp_path / "log",
            error=BuildError,
            what="x",
        )
    thread.join()
    status = Path(f"/proc/{pid_file.read_text().strip()}/status")
    assert not status.exists() or "zombie" in status.read_text()
