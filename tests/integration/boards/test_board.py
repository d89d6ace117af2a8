"""The virtual board, really booted: qemu, a Debian kernel, sshd, /data on a disk that stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edgequant.boards.board import open_board
from edgequant.boards.deploy import deploy
from edgequant.boards.facts import collect_facts
from edgequant.boards.profile import load_profile
from edgequant.boards.virtual.machine import (
    Instance,
    Outcome,
    State,
    down,
    find_instance,
    up,
    virtual_board,
)
from edgequant.core.artefact import Store
from edgequant.core.errors import HostKeyError, VirtualBoardError

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_says_it_is_an_rk3568(running_board: Instance) -> None:
    with open_board(running_board.profile) as board:
        facts = collect_facts(board)
    assert facts.compatible == ("rockchip,rk3568",)
    assert facts.architecture == "aarch64"
    assert facts.cores == 4
    assert {"asimddp", "asimdhp"} <= set(facts.isa_flags)
    assert not {"i8mm", "sve", "bf16"} & set(facts.isa_flags)
    assert facts.ram_bytes is not None
    assert 1.9e9 < facts.ram_bytes < 2**31
    assert facts.free_bytes is not None
    assert facts.free_bytes > 1.5e9


def test_files_and_programs_arrive(running_board: Instance, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(os.urandom(1_000_000))
    script = tmp_path / "hello"
    script.write_text("#!/bin/sh\nuname -m\n")
    files = {"model": model, "hello": script}
    store = Store(tmp_path / "store")
    with open_board(running_board.profile) as board:
        receipt = deploy(board, files, store=store)
        assert all(entry.sent for entry in receipt.entries.values())
        assert board.run(receipt.entries["hello"].remote_path).stdout == "aarch64\n"
        # The transfer was checked with the board's own tools, then nothing is sent again.
        assert deploy(board, files, store=store, verify=True).sent_bytes == 0


def test_a_command_does_not_outlive_us(running_board: Instance) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with open_board(running_board.profile) as board:
        with pytest.raises(KeyboardInterrupt):
            board.stream("echo started; exec sleep 12345", interrupt)
        command = (
            "i=0; while pidof sleep >/dev/null && [ $i -lt 50 ]; do i=$((i+1)); done; pidof sleep"
        )
        assert board.run(command, check=False).stdout == ""


def test_its_host_key_is_pinned(running_board: Instance) -> None:
    known_hosts = running_board.known_hosts_file
    pinned = known_hosts.read_text()
    kind, _ = pinned.split(" ", 1)
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIN7Ra9ztRo9FAfdBHEtGREsrM59TIEehAnbhmhtI0v6q"
    known_hosts.write_text(f"{kind} ssh-ed25519 {other}\n")
    try:
        with pytest.raises(HostKeyError, match="is not the known one"):
            open_board(running_board.profile)
    finally:
        known_hosts.write_text(pinned)


def test_it_reaches_no_network(running_board: Instance) -> None:
    with open_board(running_board.profile) as board:
        result = board.run("ip route add default via 10.0.2.2; nc -w 2 10.0.2.2 22", check=False)
    assert result.status != 0


def test_another_clock_is_refused_while_it_is_used(running_board: Instance) -> None:
    path = str(running_board.folder / "profile.toml")
    Path(path).write_text(
        f'name = "{running_board.name}"\nkind = "virtual"\n[build]\ntarget = "armv8-a"\n'
    )
    code = (
        "import sys\nfrom edgequant.boards.profile import load_profile\n"
        "from edgequant.boards.virtual.machine import down, up\n"
        "from edgequant.core.errors import VirtualBoardError\n"
        "profile = load_profile(sys.argv[1])\n"
        "for action in (lambda p: up(p, 'instructions'), down):\n"
        "    try:\n        action(profile)\n"
        "    except VirtualBoardError as error:\n        print(error.cause)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["another run uses it just now"] * 2, done.stderr


@pytest.fixture
def own_profile(virtual_profile_path: Path, tmp_path: Path) -> Any:
    """A second board of this test's own, stopped and removed after it."""
    path = tmp_path / f"test-own-{os.getpid()}.toml"
    path.write_text(virtual_profile_path.read_text())
    yield str(path)
    down(load_profile(str(path)), delete=True, force=True)
    shutil.rmtree(find_instance(load_profile(str(path))).folder, ignore_errors=True)


def test_up_and_down_twice_and_the_disk_stays(own_profile: str, tmp_path: Path) -> None:
    with pytest.raises(VirtualBoardError, match="is not up"):
        open_board(load_profile(own_profile))
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda: outcomes.append(up(load_profile(own_profile))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Two at once are one start.
    assert sorted(outcome.changed for outcome in outcomes) == [False, True]
    (state,) = {outcome.state for outcome in outcomes if outcome.state}
    with open_board(load_profile(own_profile)) as board:
        board.run("echo kept > /data/file")
    key = find_instance(load_profile(own_profile)).identity_file.read_bytes()
    assert down(load_profile(own_profile)).changed
    assert not alive(state.pid)
    assert not down(load_profile(own_profile)).changed
    # With the instruction clock: one core, the same disk, new keys.
    with virtual_board(load_profile(own_profile), "instructions") as instance:
        with open_board(instance.profile) as board:
            assert board.run("nproc; cat /data/file").stdout == "1\nkept\n"
        assert instance.identity_file.read_bytes() != key
        running = instance.state()
    assert running is not None
    assert not alive(running.pid)


def test_a_killed_qemu_and_a_killed_start_are_recovered_from(own_profile: str) -> None:
    # A process that starts the board, is killed before it is ready, and leaves qemu alone.
    instance = find_instance(load_profile(own_profile))
    starter, state = start_and_wait_for_qemu(own_profile)
    starter.kill()
    starter.wait()
    instance.forget()  # as if it had been killed even before it wrote this
    assert alive(state.pid)
    outcome = up(load_profile(own_profile))
    assert outcome.changed
    assert not alive(state.pid)
    # Now qemu itself is killed, and its state file stays.
    assert outcome.state is not None
    os.kill(outcome.state.pid, signal.SIGKILL)
    while alive(outcome.state.pid):
        time.sleep(0.02)
    assert instance.state() is None
    assert down(load_profile(own_profile)).message.endswith("is not running")


def start_and_wait_for_qemu(profile: str) -> tuple[subprocess.Popen[bytes], State]:
    """`edgequant board up` in a process of its own, seen until qemu runs (and still boots)."""
    code = "from edgequant.cli.app import main; main()"
    command = [sys.executable, "-c", code, "board", "up", profile]
    starter = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (state := find_instance(load_profile(profile)).state()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return starter, state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(own_profile: str, number: signal.Signals) -> None:
    starter, state = start_and_wait_for_qemu(own_profile)
    starter.send_signal(number)
    assert starter.wait(30) == 130
    assert not alive(state.pid)
    assert find_instance(load_profile(own_profile)).state() is None


def test_an_attached_board_dies_with_its_process(own_profile: str) -> None:
    code = (
        "import os, sys\nfrom edgequant.boards.profile import load_profile\n"
        "from edgequant.boards.virtual.machine import virtual_board\n"
        "with virtual_board(load_profile(sys.argv[1])) as board:\n"
        "    print(board.state().pid, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, own_profile], capture_output=True, text=True, timeout=120
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline, "qemu outlived the process that started it"
        time.sleep(0.05)


def test_a_boot_that_fails_shows_the_console(own_profile: str) -> None:
    instance = find_instance(load_profile(own_profile))
    instance.folder.mkdir(parents=True, exist_ok=True)
    instance.disk.write_bytes(b"\0" * (1 << 20))  # no file system
    with pytest.raises(VirtualBoardError, match="cannot mount its disk") as caught:
        up(load_profile(own_profile))
    assert "board down --delete" in str(caught.value)
    assert instance.state() is None


def test_dropbear_serves_as_well(own_profile: str) -> None:
    path = Path(own_profile)
    path.write_text(path.read_text().replace('server = "sshd"', 'server = "dropbear"'))
    with (
        virtual_board(load_profile(own_profile)) as instance,
        open_board(instance.profile) as board,
    ):
        assert board.run("pidof sshd", check=False).stdout == ""
        assert board.run("cat; echo done").stdout == "done\n"


def test_the_verb(own_profile: str) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = ["-c", "from edgequant.cli.app import main; main()"]
        return subprocess.run(
            [sys.executable, *program, "board", *arguments],
            capture_output=True,
            text=True,
            timeout=200,
        )

    started = json.loads(call("up", own_profile, "--json").stdout)
    assert started["started"] is True
    assert alive(started["pid"])  # it outlives the command that started it
    assert json.loads(call("up", own_profile, "--json").stdout)["started"] is False
    facts = json.loads(call("facts", own_profile, "--json").stdout)
    assert facts["compatible"] == ["rockchip,rk3568"]
    stopped = call("down", own_profile)
    assert "shut down" in stopped.stdout
    assert not alive(started["pid"])
    unreachable = call("facts", own_profile)
    assert unreachable.returncode == 36
    assert "edgequant board up" in unreachable.stderr
