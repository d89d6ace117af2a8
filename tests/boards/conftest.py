"""A board that is this machine, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.boards.board import Board, open_board
from edgequant.boards.profile import BoardProfile


@pytest.fixture
def local_board(tmp_path: Path) -> Board:
    profile = BoardProfile.model_validate(
        {
            "name": "here",
            "kind": "local",
            "build": {"target": "host"},
            "remote_folder": str(tmp_path / "board"),
        }
    )
    return open_board(profile)
