"""Boards that are this machine, in a folder of their own, behind each link that can be had here."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgequant.boards.board import Board, open_board
from edgequant.boards.profile import BoardProfile

PLAYERS = Path(__file__).parent / "links" / "players"
SECTIONS: dict[str, dict[str, Any]] = {
    "local": {},
    "adb": {"serial": "0123456789ABCDEF"},
    "hdc": {"target": "7001005458323933328a01bce0b23900"},
}


@pytest.fixture
def profile_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BoardProfile]:
    """Makes the profile of a board behind a link; programs play adb and hdc."""

    def make(kind: str, played: str = "", **section: object) -> BoardProfile:
        monkeypatch.setenv("PATH", f"{PLAYERS}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("PLAYED", played)
        values = SECTIONS[kind] | section
        if kind == "hdc":
            values = {"temporary_folder": str(tmp_path), **values}
        return BoardProfile.model_validate(
            {
                "name": "here",
                "kind": kind,
                "remote_folder": str(tmp_path / "board"),
                "build": {"target": "host"},
                kind: values,
            }
        )

    return make


@pytest.fixture
def local_board(profile_of: Callable[..., BoardProfile]) -> Board:
    return open_board(profile_of("local"))


@pytest.fixture(params=["local", "adb", "adb terminal", "hdc"])
def any_board(profile_of: Callable[..., BoardProfile], request: pytest.FixtureRequest) -> Board:
    kind, _, played = str(request.param).partition(" ")
    return open_board(profile_of(kind, played))
