"""The shell programs that run on a board, run here by sh."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

import pytest

from edgequant.boards.links import shell


def sh(command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], input=data, capture_output=True, check=False)


def test_receiving_at_an_offset_keeps_what_is_before(tmp_path: Path) -> None:
    partial = tmp_path / "it's $HOME.partial"
    block = shell.BLOCK_BYTES
    assert sh(shell.receive(str(partial), 0), b"a" * (block + 10)).returncode == 0
    assert sh(shell.receive(str(partial), block), b"b" * 20).returncode == 0
    assert partial.read_bytes() == b"a" * block + b"b" * 20


def test_receiving_nothing_makes_an_empty_file(tmp_path: Path) -> None:
    partial = tmp_path / "p"
    sh(shell.receive(str(partial), 0))
    assert partial.read_bytes() == b""


def test_receiving_between_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        shell.receive("/x", 1)


def test_file_size(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    assert shell.parse_size(sh(shell.file_size(str(path))).stdout.decode()) == -1
    path.write_bytes(b"12345")
    assert shell.parse_size(sh(shell.file_size(str(path))).stdout.decode()) == 5


def test_only_the_right_hash_renames(tmp_path: Path) -> None:
    partial, final = tmp_path / "f.partial", tmp_path / "f"
    partial.write_bytes(b"data")
    right = hashlib.sha256(b"data").hexdigest()
    wrong = "0" * 64
    assert (
        sh(shell.hash_and_rename(str(partial), str(final), wrong)).stdout.decode() == f"{right}\n"
    )
    assert partial.exists()
    assert not final.exists()
    assert (
        sh(shell.hash_and_rename(str(partial), str(final), right)).stdout.decode() == f"{right}\n"
    )
    assert final.read_bytes() == b"data"
    # Another sender was quicker: the partial is gone, and the file's own hash decides.
    assert (
        sh(shell.hash_and_rename(str(partial), str(final), right)).stdout.decode() == f"{right}\n"
    )
    final.unlink()
    assert sh(shell.hash_and_rename(str(partial), str(final), right)).stdout.strip() == b""


def start(command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", shell.leashed(command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("status", [0, 1, 42])
def test_the_leash_hands_over_status_and_streams(status: int) -> None:
    process = start(f"echo out; echo err >&2; exit {status}")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.wait(10) == status
    assert (process.stdout.read(), process.stderr.read()) == (b"out\n", b"err\n")


def test_the_leash_tells_of_signals() -> None:
    assert start("kill -ILL $$").wait(10) == 132


def test_letting_go_of_the_leash_ends_the_command_and_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    process = start(f"sleep 300 & echo $$ $! > {pids}; trap '' TERM; wait")
    assert process.stdin is not None
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    process.stdin.close()
    numbers = pids.read_text().split()
    wait_for(lambda: not any(runs(pid) for pid in numbers))
    process.wait(10)


def runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition: object, seconds: float = 15.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
