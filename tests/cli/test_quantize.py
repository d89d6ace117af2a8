"""`edgequant quantize` refuses wrong input at once, before any tool is built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def nobody(folder: Path) -> dict[str, str]:
    """A hub that does not answer, and an empty cache."""
    return {
        "HF_ENDPOINT": "http://127.0.0.1:1",
        "HF_HOME": str(folder / "cache" / "hf"),
        "EDGEQUANT_CACHE": str(folder / "cache"),
    }


MAIN = "from edgequant.cli.app import main; main()"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "cause"),
    [
        (["none"], 10, "no such folder"),
        (["acme/Tiny-1B"], 56, "cannot be reached, and acme/Tiny-1B is not"),
        (["."], 10, "has no config.json"),
        ([".", "--type", "Q9_K"], 17, "unknown quantization type 'Q9_K'"),
        ([".", "--variant", "x=Q9_K"], 17, "unknown quantization type 'Q9_K'"),
        ([".", "--calibration-text", "gone"], 13, "cannot be read: No such file"),
    ],
)
def test_wrong_input(tmp_path: Path, arguments: list[str], exit_code: int, cause: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "quantize", *arguments, "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **nobody(tmp_path)},
        check=False,
    )
    assert done.returncode == exit_code
    assert cause in json.loads(done.stdout)["cause"]
    assert "\nerror: " in "\n" + done.stderr
    assert "Traceback" not in done.stderr
    assert [p for p in tmp_path.iterdir() if p.name != "cache"] == []


def test_help_has_an_example() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "quantize", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Example: edgequant quantize" in done.stdout
