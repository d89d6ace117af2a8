"""Programs run by a process that has imported what they need: as if they ran by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgequant.core import warm as warm_module
from edgequant.core.warm import WarmPython, warm_python, warmed
from tests.processes import ended

TIMEOUT_SECONDS = 60


@pytest.fixture(autouse=True)
def none_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may share one."""
    monkeypatch.setattr(warm_module, "_local", threading.local())


@pytest.fixture
def warm() -> Iterator[WarmPython]:
    with warm_python(["colorsys", "no_such_module"], {}) as opened:
        yield opened


def run(script: Path, *arguments: str, text: str = "", **named: object) -> tuple[int, str, str]:
    done = subprocess.run(
        warmed([sys.executable, script, *arguments]),
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        **named,  # type: ignore[call-overload]
    )
    return done.returncode, done.stdout, done.stderr


def test_a_program_has_its_own_streams_arguments_environment_and_folder(
    warm: WarmPython, tmp_path: Path
) -> None:
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    script = tmp_path / "program.py"
    script.write_text(
        "import os, sys, beside\n"
        "print('colorsys' in sys.modules, __name__, sys.argv[1:], beside.NAME)\n"
        "print(os.environ['MINE'], os.getcwd(), 'OTHER' in os.environ, sys.stdin.read())\n"
        "print('said', file=sys.stderr)\n"
    )
    environment = {"PATH": os.environ["PATH"], "MINE": "yes"}
    status, out, errors = run(script, "a b", text="given", cwd=tmp_path, env=environment)
    assert (status, errors) == (0, "said\n")
    assert out == f"True __main__ ['a b'] beside\nyes {tmp_path} False given\n"
    # What one has imported or changed, the next does not see.
    script.write_text("import sys\nprint('beside' in sys.modules)\n")
    assert run(script) == (0, "False\n", "")


def test_a_module_is_run_as_well(warm: WarmPython) -> None:
    command = warmed([sys.executable, "-m", "json.tool", "--compact"])
    done = subprocess.run(command, input="[1, 2]", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[1,2]\n")


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("raise SystemExit(3)", 3, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("import os; os.abort()", -signal.SIGABRT, ""),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
    ],
)
def test_it_ends_as_the_program_ends(
    warm: WarmPython, tmp_path: Path, source: str, status: int, said: str
) -> None:
    script = tmp_path / "program.py"
    script.write_text(source)
    assert run(script) == (status, "", said)


def test_a_traceback_is_the_programs(warm: WarmPython, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("def f(): raise OSError(28, 'No space left on device')\nf()\n")
    status, _, errors = run(script)
    assert status == 1
    assert errors.endswith("OSError: [Errno 28] No space left on device\n")
    assert str(script) in errors


def started(script: Path) -> tuple[subprocess.Popen[str], int]:
    """A program that says its process id and then waits."""
    script.write_text("import os, time\nprint(os.getpid())\ntime.sleep(600)\n")
    process = subprocess.Popen(warmed([sys.executable, script]), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_the_program_ends_with_whom_it_is_run_for(warm: WarmPython, tmp_path: Path) -> None:
    process, pid = started(tmp_path / "program.py")
    process.kill()
    process.communicate()
    assert ended(pid)
    assert run_again(tmp_path) == "again\n"


def run_again(folder: Path) -> str:
    script = folder / "again.py"
    script.write_text("print('again')")
    return run(script)[1]


def test_all_programs_end_with_the_block(tmp_path: Path) -> None:
    with warm_python([], {}):
        process, pid = started(tmp_path / "program.py")
    process.communicate()
    assert ended(pid)
    assert warmed([sys.executable]) == [sys.executable]


def test_a_program_runs_by_itself_where_nobody_answers(warm: WarmPython, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys; print('colorsys' in sys.modules)")
    command = warmed([sys.executable, script])
    warm.close()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n")


def test_one_that_is_open_serves_for_both(warm: WarmPython) -> None:
    with warm_python(["other"], {}) as inner:
        assert inner is warm
    assert warmed([sys.executable]) != [sys.executable]


def test_many_at_once_and_some_that_are_gone_at_once(warm: WarmPython, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text("import sys; print(sys.argv[1])")
    programs = [
        subprocess.Popen(warmed([sys.executable, script, n]), stdout=subprocess.PIPE, text=True)
        for n in range(20)
    ]
    for process in programs[::2]:
        process.kill()
    said = [process.communicate(timeout=TIMEOUT_SECONDS)[0] for process in programs]
    assert said[1::2] == [f"{n}\n" for n in range(1, 20, 2)]
    assert run(script, "still there") == (0, "still there\n", "")
