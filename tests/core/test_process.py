"""Programs we run: output kept, failures explained, nothing left running."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgequant.core.errors import BuildError, ToolMissingError
from edgequant.core.process import run_captured, run_logged, stop_group
from edgequant.core.schemas import BEST
from edgequant.core.tables import make_table, read_csv, read_table, write_csv, write_table
from tests.processes import ended


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
    # Libraries of tables have signal handlers of their own; none may make a read start again.
    frame = make_table([{"latency_source": "study", "time_limit_seconds": 1.0}], BEST)
    write_csv(frame, tmp_path / "table.csv", BEST)
    read_csv(tmp_path / "table.csv", BEST)
    write_table(frame, tmp_path / "table.parquet", BEST)
    read_table(tmp_path / "table.parquet", BEST)
    pid_file = tmp_path / "pid"

    main = threading.main_thread().ident
    assert main is not None

    def interrupt_when_running() -> None:
        while not (pid_file.exists() and pid_file.read_text().strip()):
            time.sleep(0.01)
        # To the main thread: a signal that another one takes does not end its waiting.
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt_when_running)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_logged(
            ["sh", "-c", f"sleep 30 & echo $! > {pid_file}; wait; touch {tmp_path}/waited"],
            log=tmp_path / "log",
            error=BuildError,
            what="x",
        )
    thread.join()
    assert ended(int(pid_file.read_text()))
    assert not (tmp_path / "waited").exists()


def wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())


def test_a_program_dies_with_us_when_we_are_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import pathlib, sys\n"
        "from edgequant.core.errors import BuildError\n"
        "from edgequant.core.process import run_logged\n"
        "run_logged(['sh', '-c', 'echo $$ > ' + sys.argv[1] + '; exec sleep 600'],\n"
        "    log=pathlib.Path(sys.argv[1] + '.log'), error=BuildError, what='x')\n"
    )
    us = subprocess.Popen([sys.executable, "-c", code, str(pid_file)])
    try:
        pid = wait_for_pid(pid_file)
    finally:
        us.kill()
        us.wait()
    assert ended(pid)


def test_children_are_stopped_though_their_parent_has_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    process = subprocess.Popen(
        ["sh", "-c", f"sleep 600 & echo $! > {pid_file}"], start_new_session=True
    )
    pid = wait_for_pid(pid_file)
    assert ended(process.pid)
    stop_group(process)
    assert ended(pid)


def test_programs_start_with_the_usual_signals(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap '' TERM; yes | head -n 1; grep SigIgn /proc/self/status"
    run_logged(["sh", "-c", script], log=log, error=BuildError, what="x")
    assert "Broken pipe" not in log.read_text()
    ignored = int(log.read_text().split()[-1], 16)
    assert ignored & _bits(signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ) == _bits(signal.SIGTERM)


def _bits(*signals: signal.Signals) -> int:
    """A mask of signals as /proc/PID/status has it."""
    return sum(1 << (number - 1) for number in signals)


def test_both_streams_together_or_apart() -> None:
    argv = ["sh", "-c", "echo one; echo two >&2; exit 3"]
    both = run_captured(argv, timeout_seconds=60)
    assert (both.status, sorted(both.output.split()), both.errors) == (3, ["one", "two"], "")
    apart = run_captured(argv, timeout_seconds=60, apart=True)
    assert (apart.output, apart.errors) == ("one\n", "two\n")
    assert apart.failure == "exit status 3: two"


def test_what_was_said_before_the_time_was_up_is_kept() -> None:
    late = run_captured(["sh", "-c", "echo one; sleep 600"], timeout_seconds=1, apart=True)
    assert (late.status, late.output) == (None, "one\n")
    assert late.failure == "no answer in time: one"
