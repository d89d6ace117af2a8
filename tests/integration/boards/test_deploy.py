"""Deploying over a real sshd on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgequant.boards.board import Board
from edgequant.boards.deploy import deploy
from edgequant.core.artefact import Store
from edgequant.core.errors import BoardSpaceError
from tests.ssh import over_ssh

pytestmark = pytest.mark.integration


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(os.urandom(2_000_000))
    return path


def test_deployed_twice_sent_once(ssh_board: Board, model: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = deploy(ssh_board, {"m": model, "ls": Path("/bin/ls")}, store=store)
    assert all(entry.sent for entry in first.entries.values())
    assert ssh_board.run(f"{first.entries['ls'].remote_path} -d /").stdout == "/\n"
    again = deploy(ssh_board, {"m": model, "ls": Path("/bin/ls")}, store=store)
    assert not any(entry.sent for entry in again.entries.values())
    assert again.sent_bytes == 0


def test_a_deploy_that_was_cut_for_good_is_taken_up_later(
    ssh_server: Any, cutting_proxy: Callable[..., Any], tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(os.urandom(10_000_000))
    store = Store(tmp_path / "store")
    proxy = cutting_proxy()
    profile = ssh_server.profile(tmp_path / "board", port=proxy.port)

    class CutError(Exception):
        pass

    with over_ssh(profile) as board:
        send = board.send

        def cut_in_the_middle(*args: Any, on_bytes: Callable[[int], None], **kwargs: Any) -> None:
            def watch(done: int) -> None:
                on_bytes(done)
                if done > 8_000_000:
                    raise CutError

            send(*args, on_bytes=watch, **kwargs)

        board.send = cut_in_the_middle  # type: ignore[method-assign]
        with pytest.raises(CutError):
            deploy(board, {"m": model}, store=store)
    (partial,) = (tmp_path / "board").glob("store/*/*")
    assert partial.name == "model.gguf.partial"
    before = sum(proxy.passed)
    with over_ssh(profile) as board:
        receipt = deploy(board, {"m": model}, store=store)
    assert Path(receipt.entries["m"].remote_path).read_bytes() == model.read_bytes()
    assert sum(proxy.passed) - before < 6_000_000


def test_space_is_checked_before_anything_is_sent(
    ssh_server: Any, tmp_path: Path, small_disk: Path
) -> None:
    model = tmp_path / "larger.gguf"
    model.write_bytes(bytes(3_000_000))
    with (
        over_ssh(ssh_server.profile(small_disk)) as board,
        pytest.raises(BoardSpaceError, match=r"3\.0 MB are to be sent .* 2\.1 MB are free"),
    ):
        deploy(board, {"m": model}, store=Store(tmp_path / "store"))
    assert list(small_disk.glob("store/*")) == []


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = ["-c", "from edgequant.cli.app import main; main()"]
    return subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, timeout=120
    )


def test_the_verb(ssh_server: Any, tmp_path: Path, model: Path) -> None:
    profile = ssh_server.profile(tmp_path / "board")
    path = tmp_path / "mine.toml"
    ssh = "".join(
        f"{k} = {json.dumps(v)}\n" for k, v in profile.link_section.model_dump(mode="json").items()
    )
    folder = json.dumps(profile.remote_folder)
    path.write_text(f'remote_folder = {folder}\n[build]\ntarget = "host"\n[ssh]\n{ssh}')
    done = command("deploy", str(path), str(model), "--json")
    assert done.returncode == 0, done.stderr
    receipt = json.loads(done.stdout)
    assert receipt["entries"][str(model)]["sent"] is True
    assert "Sending model.gguf to mine" in done.stderr
    again = command("deploy", str(path), str(model))
    assert "was there" in again.stdout
    missing = command("deploy", str(path), str(tmp_path / "none.gguf"), "--json")
    assert missing.returncode == 34
    assert json.loads(missing.stdout)["error"] == "TransferError"
    unknown = command("deploy", "nobody", str(model))
    assert unknown.returncode == 15
    assert "no board profile 'nobody'" in unknown.stderr
