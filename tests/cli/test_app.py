"""The command itself: help without heavy imports, errors with their own exit codes."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgequant.cli.app import VERBS
from edgequant.core import errors

CALL = "from edgequant.cli.app import main; main()"
VERBS_OF_VERBS = {"cache": "prune", "board": "up", "toolchain": "update"}
HEAVY = {
    "torch",
    "transformers",
    "matplotlib",
    "pandas",
    "pyarrow",
    "numpy",
    "fabric",
    "paramiko",
    "httpx",
}


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CALL, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edgequant.cli.app import make_app\n"
        "try: make_app(['--help'])(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.strip(" '[]") for name in done.stderr.split(",")}
    assert not HEAVY & loaded
    for verb in VERBS:
        assert verb in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself_with_an_example(verb: str) -> None:
    done = run(verb, "--help")
    assert done.returncode == 0, done.stderr
    if verb in VERBS_OF_VERBS:
        done = run(verb, VERBS_OF_VERBS[verb], "--help")
    assert "Example" in done.stdout
    assert "--json" in done.stdout


def test_a_wrong_verb_is_a_usage_error_with_a_suggestion() -> None:
    done = run("bild")
    assert done.returncode == 2
    assert "build" in done.stderr


def test_an_error_names_its_class_and_code_in_json(tmp_path: Path) -> None:
    done = run("sweep", "no-such-experiment", "--json", cwd=tmp_path)
    assert done.returncode == errors.ExperimentError.exit_code
    assert json.loads(done.stdout)["error"] == "ExperimentError"
    assert "Next step" in done.stderr


@pytest.mark.parametrize(
    ("action", "status", "says"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", 130, "Interrupted"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 130, "Interrupted"),
        ("os.kill(os.getpid(), signal.SIGHUP)", 130, "Interrupted"),
        ("raise OSError(28, 'No space left on device')", 60, "no space left on this machine"),
    ],
)
def test_what_ends_a_verb_from_outside_is_told(action: str, status: int, says: str) -> None:
    code = (
        "import os, signal, sys, time\n"
        "from edgequant.cli import app, doctor\n"
        f"def command():\n    {action}\n    time.sleep(5)\n"
        "doctor.command = command\n"
        "sys.argv = ['edgequant', 'doctor']\n"
        "app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_each_class_of_error_has_its_own_exit_code() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, errors.EdgequantError)
    ]
    codes = [c.exit_code for c in classes]
    assert len(codes) == len(set(codes))
    assert all(0 < code < 126 and code != 2 for code in codes)


def test_a_usage_error_is_json_too() -> None:
    done = run("sweep", "--no-such-option", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["exit_code"] == 2
    assert "--no-such-option" in done.stderr


def test_a_reader_that_went_away_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{CALL}' board ls | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_mistake_of_ours_shows_no_traceback(tmp_path: Path) -> None:
    code = (
        "import os, sys; from edgequant.cli import app, doctor\n"
        "def command(as_json: bool = False):\n    raise ValueError('no such luck')\n"
        "doctor.command = command\n"
        "sys.argv = ['edgequant', 'doctor']\n"
        "app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "EDGEQUANT_CACHE": str(tmp_path)},
    )
    assert done.returncode == errors.InternalError.exit_code
    assert "no such luck" in done.stderr
    assert "Traceback" not in done.stderr
