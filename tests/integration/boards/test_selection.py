"""A target chosen by what a booted board says of its CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.boards.target_selection import target_of_board
from edgequant.boards.virtual.machine import Instance

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_booted_board_gets_what_its_cpu_can_run(
    running_board: Instance, virtual_profile_path: Path, tmp_path: Path
) -> None:
    choice = target_of_board(str(virtual_profile_path))
    assert choice.target.name == "armv8.2-a+dotprod+fp16"
    assert choice.note is None
    wrong = tmp_path / virtual_profile_path.name
    text = virtual_profile_path.read_text()
    wrong.write_text(text.replace(choice.target.name, "armv8.2-a+dotprod+fp16+i8mm"))
    choice = target_of_board(str(wrong))
    assert choice.target.name == "armv8.2-a+dotprod+fp16"
    assert "lacks i8mm" in str(choice.note)
