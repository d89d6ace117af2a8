"""Links over adb and hdc, against programs that play them: no device was there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgequant.boards import board as board_module
from edgequant.boards.board import open_board
from edgequant.boards.links.hdc import HdcLink
from edgequant.boards.profile import BoardProfile
from edgequant.core.errors import (
    AuthenticationError,
    BoardUnreachableError,
    EdgequantError,
    ToolMissingError,
    TransferError,
)

ProfileOf = Callable[..., BoardProfile]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "RETRY_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("kind", "played", "section", "error", "message"),
    [
        ("adb", "", {"serial": "nobody"}, BoardUnreachableError, r"\(error: device 'nobody' not"),
        ("adb", "offline", {}, BoardUnreachableError, "device offline"),
        ("adb", "unauthorized", {}, AuthenticationError, "has not accepted this machine's adb key"),
        ("hdc", "", {"target": "nobody"}, BoardUnreachableError, "hdc does not list nobody"),
        ("hdc", "empty", {}, BoardUnreachableError, r"\[Empty\]"),
    ],
)
def test_a_board_that_is_not_reached(
    profile_of: ProfileOf,
    kind: str,
    played: str,
    section: dict[str, str],
    error: type[EdgequantError],
    message: str,
) -> None:
    with pytest.raises(error, match=message) as caught:
        open_board(profile_of(kind, played, **section))
    assert kind in str(caught.value.next_step)


@pytest.mark.parametrize("kind", ["adb", "hdc"])
def test_a_program_that_is_not_installed(
    profile_of: ProfileOf, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = profile_of(kind)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissingError, match=f"{kind} is not installed"):
        open_board(profile)


def test_an_output_that_ends_before_its_mark_is_a_broken_connection(profile_of: ProfileOf) -> None:
    board = open_board(profile_of("adb", "cut"))
    with pytest.raises(BoardUnreachableError, match="the connection broke while `echo"):
        board.run("echo a long line that is cut; echo another")


@pytest.mark.parametrize("kind", ["adb", "hdc"])
def test_a_board_that_went_away_says_so(
    profile_of: ProfileOf, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = open_board(profile_of(kind))
    monkeypatch.setenv("PLAYED", "offline")
    if kind == "hdc":
        gone = profile_of(kind, target="gone").link_section
        monkeypatch.setattr(board.link, "_section", gone)
    with pytest.raises(BoardUnreachableError, match=r"device offline|Not match target founded"):
        board.run("true")


def test_hdc_sends_in_pieces_and_goes_on_where_it_was(
    profile_of: ProfileOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HdcLink, "stdin_bytes", 1 << 16)
    source, there = tmp_path / "source", tmp_path / "there"
    source.write_bytes(os.urandom(200_000))
    (tmp_path / "there.partial").write_bytes(source.read_bytes()[: 1 << 16])
    seen: list[int] = []
    open_board(profile_of("hdc")).send(source, str(there), on_bytes=seen.append)
    assert there.read_bytes() == source.read_bytes()
    assert seen[0] == 1 << 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "there"]


def test_hdc_that_cannot_write_a_piece(profile_of: ProfileOf, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    with pytest.raises(BoardUnreachableError, match="no space left on device"):
        open_board(profile_of("hdc", "no file")).send(source, str(tmp_path / "there"))


@pytest.mark.parametrize("kind", ["adb", "hdc"])
def test_what_dd_says_on_the_board_arrives(
    profile_of: ProfileOf, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    with pytest.raises(TransferError, match="cannot write /proc/nothing/there"):
        open_board(profile_of(kind)).send(source, "/proc/nothing/there")
