"""The SSH transport against a real sshd on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgequant.boards import board as board_module
from edgequant.boards.board import Board, open_board
from edgequant.core.errors import (
    AuthenticationError,
    BoardSpaceError,
    BoardUnreachableError,
    HostKeyError,
    RemoteCommandError,
    TransferError,
)
from tests.ssh import over_ssh

pytestmark = pytest.mark.integration
# What sshd lets be under way on one channel; lost where a connection is cut.
WINDOW_BYTES = 2 << 20
Server = Any
Proxy = Any


def process_runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_ended(path: Path, seconds: float = 20.0) -> None:
    event = threading.Event()
    pid = int(path.read_text())
    for _ in range(int(seconds / 0.05)):
        if not process_runs(pid):
            return
        event.wait(0.05)
    raise AssertionError(f"process {pid} still runs")


def test_status_and_both_streams(ssh_board: Board) -> None:
    result = ssh_board.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.status, result.stdout, result.stderr) == (3, "out\n", "err\n")


def test_a_failure_shows_what_was_said(ssh_board: Board) -> None:
    with pytest.raises(RemoteCommandError, match=r"exit status 3[\s\S]*no such thing"):
        ssh_board.run("echo no such thing >&2; exit 3")


def test_signals_have_names(ssh_board: Board) -> None:
    with pytest.raises(RemoteCommandError, match="illegal instruction"):
        ssh_board.run("kill -ILL $$")


def test_quotes_and_line_ends_survive(ssh_board: Board) -> None:
    assert ssh_board.run("printf '%s' \"it's\n$((1+1))\"").stdout == "it's\n2"


def test_lines_come_while_the_command_runs(ssh_board: Board, tmp_path: Path) -> None:
    go = tmp_path / "go"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        go.touch()

    command = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; printf last"
    result = ssh_board.stream(command, on_line, timeout_seconds=30)
    assert lines == ["first", "last"]
    assert result.stdout == "first\nlast"


def test_much_output_on_both_streams_does_not_block(ssh_board: Board) -> None:
    # Twice an SSH window on either stream.
    command = "head -c 4500000 /dev/zero >&2 & head -c 4500000 /dev/zero; wait"
    result = ssh_board.run(command)
    assert (len(result.stdout), len(result.stderr)) == (4_500_000, 4_500_000)


def test_a_timeout_ends_the_command(ssh_board: Board, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(RemoteCommandError, match="took longer than 1 s"):
        ssh_board.run(f"sleep 300 & echo $! > {pid}; wait", timeout_seconds=1)
    wait_ended(pid)
    assert ssh_board.run("echo still there").stdout == "still there\n"


def test_an_interruption_ends_the_command(ssh_board: Board, tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ssh_board.stream(f"echo $$ > {pid}; echo line; exec sleep 300", interrupt)
    wait_ended(pid)


def test_a_cut_connection_ends_the_command_and_says_so(
    ssh_server: Server, cutting_proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    proxy = cutting_proxy()
    pid = tmp_path / "pid"
    profile = ssh_server.profile(tmp_path, port=proxy.port)
    with (
        over_ssh(profile) as board,
        pytest.raises(BoardUnreachableError, match="the connection broke while `echo"),
    ):
        board.stream(f"echo $$ > {pid}; echo line; exec sleep 300", lambda _: proxy.cut())
    wait_ended(pid)


def test_the_next_command_connects_anew(
    ssh_server: Server, cutting_proxy: Callable[..., Proxy], tmp_path: Path
) -> None:
    proxy = cutting_proxy()
    profile = ssh_server.profile(tmp_path, port=proxy.port)
    with over_ssh(profile) as board:
        assert board.run("echo one").stdout == "one\n"
        proxy.cut()
        assert board.run("echo two").stdout == "two\n"
    assert len(proxy.passed) == 2


# Not getting in -------------------------------------------------------------------------------


def test_an_unknown_host_key(ssh_server: Server, tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    profile = ssh_server.profile(tmp_path, known_hosts_file=str(empty))
    with pytest.raises(HostKeyError, match=r"is not known .*SHA256:") as caught:
        open_board(profile)
    assert "ssh-keyscan -p" in str(caught.value)
    assert not empty.exists()  # nothing is accepted by itself


def test_a_changed_host_key(ssh_server: Server, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True
    )
    other = " ".join((tmp_path / "k.pub").read_text().split()[:2])
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{ssh_server.port} {other}\n")
    profile = ssh_server.profile(tmp_path, known_hosts_file=str(known_hosts))
    with pytest.raises(HostKeyError, match="is not the known one") as caught:
        open_board(profile)
    assert "ssh-keygen -f" in str(caught.value)


def test_a_refused_key(ssh_server: Server, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True
    )
    with pytest.raises(AuthenticationError, match="refuses the key"):
        open_board(ssh_server.profile(tmp_path, identity_file=str(tmp_path / "k")))


def test_a_key_that_is_not_there(ssh_server: Server, tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError, match="a key that is not there"):
        open_board(ssh_server.profile(tmp_path, identity_file=str(tmp_path / "none")))


def test_nobody_listens(ssh_server: Server, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but not listening
        profile = ssh_server.profile(tmp_path, port=unused.getsockname()[1])
        with pytest.raises(BoardUnreachableError, match="refuses the connection"):
            open_board(profile)


def test_a_name_that_does_not_exist(ssh_server: Server, tmp_path: Path) -> None:
    with pytest.raises(BoardUnreachableError, match=r"no such host: nowhere\.invalid"):
        open_board(ssh_server.profile(tmp_path, host="nowhere.invalid"))


def test_a_server_that_never_speaks(ssh_server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        profile = ssh_server.profile(
            tmp_path, port=silent.getsockname()[1], connect_timeout_seconds=0.5
        )
        with pytest.raises(BoardUnreachableError, match=r"no SSH connection|did not answer"):
            open_board(profile)


# Sending --------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(os.urandom(3_000_001))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.gguf"
    path.write_bytes(os.urandom(12_000_001))
    return path


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "RETRY_SECONDS", 0.05)


@pytest.mark.parametrize("size", [0, 1, 65536, 200_000])
def test_a_file_of_any_size_arrives(ssh_board: Board, tmp_path: Path, size: int) -> None:
    path, there = tmp_path / "file", tmp_path / "board" / "it's here"
    path.write_bytes(os.urandom(size))
    seen: list[int] = []
    ssh_board.send(path, str(there), on_bytes=seen.append)
    assert there.read_bytes() == path.read_bytes()
    assert seen[-1] == size
    assert [p.name for p in there.parent.iterdir()] == [there.name]


def test_a_cut_transfer_goes_on_where_it_was(
    ssh_server: Server, cutting_proxy: Callable[..., Proxy], tmp_path: Path, large: Path
) -> None:
    proxy = cutting_proxy(6_000_000, 5_000_000)
    profile = ssh_server.profile(tmp_path, port=proxy.port)
    there = tmp_path / "there"
    seen: list[int] = []
    with over_ssh(profile) as board:
        board.send(large, str(there), on_bytes=seen.append)
    assert there.read_bytes() == large.read_bytes()
    assert len(proxy.passed) == 3
    # Resumed, not begun anew: of what was under way at each cut, at most a window is sent again.
    assert sum(proxy.passed) < large.stat().st_size + 2 * WINDOW_BYTES + 1_000_000


def test_an_interrupted_transfer_is_taken_up_by_the_next_run(
    ssh_server: Server, cutting_proxy: Callable[..., Proxy], tmp_path: Path, large: Path
) -> None:
    proxy = cutting_proxy()
    profile = ssh_server.profile(tmp_path, port=proxy.port)
    there = tmp_path / "there"

    def interrupt(done: int) -> None:
        if done > 8_000_000:
            raise KeyboardInterrupt

    with (
        over_ssh(profile) as board,
        pytest.raises(KeyboardInterrupt),
    ):
        board.send(large, str(there), on_bytes=interrupt)
    assert not there.exists()
    first: list[int] = []
    with over_ssh(profile) as board:
        board.send(large, str(there), on_bytes=first.append)
    assert first[0] > 8_000_000 - WINDOW_BYTES - 500_000
    assert there.read_bytes() == large.read_bytes()


def test_a_board_that_stays_away(
    ssh_server: Server, cutting_proxy: Callable[..., Proxy], tmp_path: Path, source: Path
) -> None:
    # Every connection is cut soon after the greeting: no progress is ever made.
    proxy = cutting_proxy(*[9_000] * 50)
    profile = ssh_server.profile(tmp_path, port=proxy.port)
    with (
        over_ssh(profile) as board,
        pytest.raises(BoardUnreachableError, match=r"while sending model\.gguf"),
    ):
        board.send(source, str(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("left", ["same size", "shorter", "longer"])
def test_a_damaged_partial_is_thrown_away(
    ssh_board: Board, tmp_path: Path, source: Path, left: str
) -> None:
    size = source.stat().st_size
    there = tmp_path / "board" / "model.gguf"
    length = {"same size": size, "shorter": 1_000_000, "longer": size + 5}[left]
    there.with_name("model.gguf.partial").write_bytes(b"\0" * length)
    ssh_board.send(source, str(there))
    assert there.read_bytes() == source.read_bytes()
    assert [p.name for p in there.parent.iterdir()] == ["model.gguf"]


def test_a_file_that_is_not_what_was_promised(
    ssh_board: Board, tmp_path: Path, source: Path
) -> None:
    there = tmp_path / "board" / "model.gguf"
    with pytest.raises(TransferError, match="arrived damaged twice"):
        ssh_board.send(source, str(there), sha256="0" * 64)
    assert list(there.parent.iterdir()) == []


def test_two_senders_at_once_do_each_other_no_harm(
    ssh_server: Server, tmp_path: Path, source: Path
) -> None:
    there = tmp_path / "there"
    problems: list[BaseException] = []
    # Made once: making it writes the known-hosts file, which the other sender may be reading.
    profile = ssh_server.profile(tmp_path)

    def send() -> None:
        try:
            with over_ssh(profile) as board:
                board.send(source, str(there))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert there.read_bytes() == source.read_bytes()


def test_a_folder_that_nobody_may_write(ssh_board: Board, source: Path) -> None:
    with pytest.raises(TransferError, match="cannot write /proc/nothing/model"):
        ssh_board.send(source, "/proc/nothing/model")


def test_a_disk_that_fills_up(ssh_board: Board, small_disk: Path, source: Path) -> None:
    with pytest.raises(BoardSpaceError, match="No space left"):
        ssh_board.send(source, str(small_disk / "model"))
    assert not (small_disk / "model").exists()
