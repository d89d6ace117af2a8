from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from edgequant.build.idle_program import MACHINE_CODE, idle_program


@pytest.mark.skipif(
    platform.machine() not in MACHINE_CODE, reason="no such program for this machine"
)
def test_an_idle_program_runs_here(tmp_path: Path) -> None:
    program = tmp_path / "nothing"
    content = idle_program(platform.machine())
    assert content is not None
    program.write_bytes(content)
    program.chmod(0o755)
    assert subprocess.run([program], check=False).returncode == 0


def test_an_unknown_machine_has_no_idle_program() -> None:
    assert idle_program("vax") is None
