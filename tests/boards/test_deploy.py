"""Deploying: what lies there, what is sent, and what is trusted."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from edgequant.boards import deploy as deploy_module
from edgequant.boards.board import Board
from edgequant.boards.deploy import deploy
from edgequant.core.artefact import Store
from edgequant.core.errors import AuditError, BoardSpaceError, TransferError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model Q8_0.gguf"
    path.write_bytes(os.urandom(200_000))
    return path


def test_a_file_lies_under_its_hash(local_board: Board, model: Path, store: Store) -> None:
    receipt = deploy(local_board, {"Q8_0": model}, store=store)
    entry = receipt.entries["Q8_0"]
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    assert entry.sha256 == sha256
    assert entry.remote_path == f"{receipt.remote_folder}/store/{sha256}/{model.name}"
    assert Path(entry.remote_path).read_bytes() == model.read_bytes()
    assert (entry.sent, receipt.sent_bytes) == (True, 200_000)


def test_the_receipt_is_kept(local_board: Board, model: Path, store: Store) -> None:
    receipt = deploy(local_board, {"m": model}, store=store)
    (path,) = store.root.glob("receipt/*/receipt.json")
    assert json.loads(path.read_text()) == receipt.model_dump(mode="json")


def test_what_is_there_is_not_sent_again(
    local_board: Board, model: Path, store: Store, tmp_path: Path
) -> None:
    deploy(local_board, {"m": model}, store=store)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    receipt = deploy(local_board, {"m": model, "o": other}, store=store)
    assert {name: entry.sent for name, entry in receipt.entries.items()} == {"m": False, "o": True}


def damage(path: str, *, same_size: bool) -> None:
    file = Path(path)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content if same_size else content[:-1])


@pytest.mark.parametrize("same_size", [True, False])
def test_a_changed_file_is_noticed_and_sent_again(
    local_board: Board, model: Path, store: Store, same_size: bool
) -> None:
    path = deploy(local_board, {"m": model}, store=store).entries["m"].remote_path
    marker = Path(path).parent / ".ok"
    os.utime(marker, (1_600_000_000, 1_600_000_000))  # the marker is older than the change
    damage(path, same_size=same_size)
    assert deploy(local_board, {"m": model}, store=store).entries["m"].sent
    assert Path(path).read_bytes() == model.read_bytes()


def test_silent_damage_is_found_by_verify(local_board: Board, model: Path, store: Store) -> None:
    path = deploy(local_board, {"m": model}, store=store).entries["m"].remote_path
    damage(path, same_size=True)
    os.utime(path, (1_600_000_000, 1_600_000_000))  # as a failing disk would: no newer time
    assert not deploy(local_board, {"m": model}, store=store).entries["m"].sent
    assert deploy(local_board, {"m": model}, store=store, verify=True).entries["m"].sent
    assert Path(path).read_bytes() == model.read_bytes()


def test_a_whole_file_whose_marker_was_lost_is_hashed_not_sent(
    local_board: Board, model: Path, store: Store
) -> None:
    path = Path(deploy(local_board, {"m": model}, store=store).entries["m"].remote_path)
    (path.parent / ".ok").unlink()
    assert not deploy(local_board, {"m": model}, store=store).entries["m"].sent
    assert (path.parent / ".ok").read_text().strip() == "200000"


def test_programs_can_be_run_and_models_cannot(
    local_board: Board, model: Path, store: Store, tmp_path: Path
) -> None:
    script = tmp_path / "hello"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o644)
    entries = deploy(local_board, {"s": script, "m": model}, store=store).entries
    assert local_board.run(f"'{entries['s'].remote_path}'").stdout == "hello\n"
    assert not os.access(entries["m"].remote_path, os.X_OK)


def test_a_program_for_another_machine_is_not_even_sent(
    local_board: Board, store: Store, tmp_path: Path
) -> None:
    program = tmp_path / "probe"
    program.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xf3\x00" + bytes(44))  # RISC-V
    with pytest.raises(AuditError, match="riscv64"):
        deploy(local_board, {"probe": program}, store=store)
    assert list(Path(local_board.profile.remote_folder).glob("store/*")) == []


def test_too_little_space_says_needed_free_and_what_to_delete(
    local_board: Board,
    model: Path,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = tmp_path / "old"
    old.write_bytes(b"o" * 50_000)
    old_path = deploy(local_board, {"old": old}, store=store).entries["old"].remote_path
    # However much is free here, it is too little with this much to be spared.
    monkeypatch.setattr(deploy_module, "SPARE_BYTES", 1 << 60)
    with pytest.raises(BoardSpaceError, match=r"0\.2 MB are to be sent.* are free on /") as caught:
        deploy(local_board, {"m": model}, store=store)
    assert str(Path(old_path).parent) in str(caught.value)
    # What is there already needs no space.
    assert not deploy(local_board, {"old": old}, store=store).entries["old"].sent


def test_a_missing_file_is_named(local_board: Board, store: Store, tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"nothing\.gguf: no such file"):
        deploy(local_board, {"m": tmp_path / "nothing.gguf"}, store=store)


def test_nothing_to_do(local_board: Board, store: Store) -> None:
    assert deploy(local_board, {}, store=store).entries == {}
