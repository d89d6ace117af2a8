"""The virtual board's arguments and state, without starting it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgequant.boards.board import open_board
from edgequant.boards.profile import load_profile
from edgequant.boards.virtual import machine
from edgequant.boards.virtual.machine import State, down, find_instance, machine_arguments, up
from edgequant.core.errors import ProfileError, ToolMissingError, VirtualBoardError
from edgequant.core.files import write_json

VIRTUAL = load_profile("virtual")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))


def write_state(pid: int, ticks: int) -> None:
    instance = find_instance(VIRTUAL)
    instance.folder.mkdir(parents=True, exist_ok=True)
    state = State(pid=pid, start_ticks=ticks, port=1, clock="host", setup="s")
    write_json(instance.folder / "state.json", state.model_dump())


def test_host_clock_has_all_cores_on_one_thread() -> None:
    arguments = machine_arguments(load_profile("virtual"), "host")
    assert arguments[arguments.index("-smp") + 1] == "4"
    assert arguments[arguments.index("-m") + 1] == "2048M"
    assert "tcg,thread=single" in arguments
    assert "-icount" not in arguments


def test_instruction_clock_has_one_core() -> None:
    arguments = machine_arguments(load_profile("virtual"), "instructions")
    assert arguments[arguments.index("-smp") + 1] == "1"
    assert arguments[arguments.index("-icount") + 1] == "shift=0,sleep=off"


def test_the_guest_is_kept_off_every_network(tmp_path: Path) -> None:
    arguments = machine.system_arguments(find_instance(VIRTUAL), tmp_path / "Image", 2222)
    network = arguments[arguments.index("-netdev") + 1]
    assert "restrict=on" in network
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in network


def test_a_real_board_is_not_started() -> None:
    with pytest.raises(ProfileError, match="only virtual boards"):
        up(load_profile("rk3568"))


def test_a_board_that_is_down_says_how_to_start_it() -> None:
    with pytest.raises(VirtualBoardError, match="edgequant board up virtual"):
        open_board(load_profile("virtual"))


def test_down_twice_is_no_error() -> None:
    assert not down(VIRTUAL).changed
    assert down(VIRTUAL).message == "virtual is not running"


def test_a_stale_state_file_is_not_believed() -> None:
    # Our own pid with another start time: the number was given to another process since.
    write_state(os.getpid(), 1)
    assert find_instance(VIRTUAL).state() is None
    assert not down(VIRTUAL).changed
    os.kill(os.getpid(), 0)


def test_a_process_that_has_ended_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ticks = machine._start_ticks(process.pid)
    assert ticks is not None
    write_state(process.pid, ticks)
    assert find_instance(VIRTUAL).state() is not None
    process.kill()
    process.wait()
    assert find_instance(VIRTUAL).state() is None


def test_a_damaged_state_file_is_not_believed() -> None:
    write_state(1, 1)
    (find_instance(VIRTUAL).folder / "state.json").write_text("{")
    assert find_instance(VIRTUAL).state() is None


def test_qemu_missing_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "QEMU", "qemu-system-that-nobody-has")
    with pytest.raises(ToolMissingError, match="apt-get install qemu-system-arm"):
        up(VIRTUAL)


def test_keys_are_fresh_private_and_fit_each_other(tmp_path: Path) -> None:
    import paramiko

    private, public = machine._new_key()
    assert machine._new_key()[0] != private
    path = tmp_path / "key"
    machine._write_private(path, private)
    assert path.stat().st_mode & 0o777 == 0o600
    key = paramiko.Ed25519Key(filename=str(path))
    assert public.decode().split()[1] == key.get_base64()
