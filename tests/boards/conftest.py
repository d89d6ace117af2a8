"""A board that is this machine, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.boards.links.local import LocalBoard
from edgequant.boards.profile import BoardProfile


@pytest.fixture
def local_board(tmp_path: Path) -> LocalBoard:
    profile = BoardProfile.model_validate(
        {
            "name": "here",
            "kind": "local",
            "build": {"target": "host"},
            "local": {"folder": str(tmp_path / "board")},
        }
    )
    return LocalBoard(profile)
