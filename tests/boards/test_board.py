"""What every board does, over each link that can be had here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.boards.board import Board
from edgequant.boards.facts import collect_facts
from edgequant.core.errors import RemoteCommandError, TransferError
from tests.processes import ended


def test_run_hands_over_status_and_streams(any_board: Board) -> None:
    result = any_board.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_quotes_and_line_ends_survive(any_board: Board) -> None:
    assert any_board.run("printf '%s' \"it's\n$((1+1))\"").stdout == "it's\n2"
    assert any_board.run("true").stdout == ""


def test_a_failure_shows_what_was_said(any_board: Board) -> None:
    with pytest.raises(RemoteCommandError, match=r"exit status 3[\s\S]*no such thing"):
        any_board.run("echo no such thing >&2; exit 3")


def test_an_illegal_instruction_is_called_by_its_name(any_board: Board) -> None:
    with pytest.raises(RemoteCommandError, match="illegal instruction"):
        any_board.run("kill -ILL $$")


def test_lines_come_while_the_command_runs(any_board: Board, tmp_path: Path) -> None:
    go = tmp_path / "go"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        go.touch()

    command = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; printf last"
    result = any_board.stream(command, on_line, timeout_seconds=20)
    assert lines == ["first", "last"]
    assert result.stdout == "first\nlast"


def test_a_timeout_ends_the_command_and_its_children(any_board: Board, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(RemoteCommandError, match="took longer than 1 s"):
        any_board.run(f"sleep 300 & echo $! > {pid}; wait", timeout_seconds=1)
    assert ended(pid.read_text().strip(), seconds=10)


def test_an_interruption_ends_the_command(any_board: Board, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        any_board.stream(f"echo $$ > {pid}; echo line; sleep 300", interrupt)
    assert ended(pid.read_text().strip(), seconds=10)


def test_much_output_on_both_streams_does_not_block(any_board: Board) -> None:
    command = "i=0; while [ $i -lt 3000 ]; do echo $i; echo $i$i$i$i$i$i$i$i >&2; i=$((i+1)); done"
    result = any_board.run(command)
    assert result.stdout.splitlines()[-1] == "2999"
    assert len(result.stderr.splitlines()) == 3000


def test_a_file_arrives_whole(any_board: Board, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 3_000_000)
    seen: list[int] = []
    folder = Path(any_board.profile.remote_folder)
    folder.mkdir()
    any_board.send(source, str(folder / "copy"), on_bytes=seen.append)
    assert (folder / "copy").read_bytes() == source.read_bytes()
    assert seen[-1] == 3_000_000
    assert [p.name for p in folder.iterdir()] == ["copy"]


def test_a_file_with_another_hash_is_not_kept(any_board: Board, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    with pytest.raises(TransferError, match="arrived damaged"):
        any_board.send(source, str(tmp_path / "copy"), sha256="0" * 64)
    assert list(tmp_path.iterdir()) == [source]


def test_facts_of_this_machine(any_board: Board) -> None:
    facts = collect_facts(any_board)
    assert facts.cores >= 1
    assert facts.ram_bytes is not None
    assert facts.free_bytes is not None
    assert facts.isa_flags
