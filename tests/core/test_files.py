"""Files are there whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from edgequant.core.files import copy_whole, partials_of, whole_file, write_json, write_text_whole
from edgequant.core.host import host_identity


def leave_partial(path: Path, host: str, pid: object) -> Path:
    partial = path.with_name(f"{path.name}.{host}-{pid}.partial")
    partial.write_text("half")
    return partial


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with whole_file(path) as partial:
        assert not partial.exists()
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("mode", [None, 0o600])
def test_what_a_failure_half_wrote_goes(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), whole_file(path, mode=mode) as partial:
        partial.write_text("half")
        raise OSError("full")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["table.csv"]


def test_a_private_file_is_private_from_its_first_byte(tmp_path: Path) -> None:
    with whole_file(tmp_path / "key", mode=0o600) as partial:
        assert permissions(partial) == 0o600
        partial.write_text("secret")
    assert permissions(tmp_path / "key") == 0o600


def test_a_mode_holds_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        write_text_whole(tmp_path / "lock.toml", "a = 1\n", mode=0o664, sync=True)
        write_text_whole(tmp_path / "plain", "a")
    finally:
        os.umask(old)
    assert permissions(tmp_path / "lock.toml") == 0o664
    assert permissions(tmp_path / "plain") == 0o600


def test_leftovers_of_dead_processes_go_and_those_of_others_stay(tmp_path: Path) -> None:
    child = multiprocessing.Process(target=lambda: None)
    child.start()
    child.join()
    path = tmp_path / "a[1].json"
    dead = [leave_partial(path, host_identity(), pid) for pid in (child.pid, os.getpid())]
    alive = [leave_partial(path, host_identity(), os.getppid()), leave_partial(path, "0badcafe", 1)]
    other = leave_partial(tmp_path / "b.json", host_identity(), child.pid)
    assert set(partials_of(path)) == {*dead, *alive}
    write_json(path, {"ä": 1})
    assert path.read_text(encoding="utf-8") == '{\n  "ä": 1\n}\n'
    assert not any(partial.exists() for partial in dead)
    assert all(partial.exists() for partial in [*alive, other])


def test_a_copy_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"new")
    (tmp_path / "to").write_bytes(b"old and longer")
    copy_whole(tmp_path / "from", tmp_path / "to")
    assert (tmp_path / "to").read_bytes() == b"new"
