"""The cpio writer, read back by an independent reader."""

from __future__ import annotations

import shutil
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.boards.virtual import cpio

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=30)


def read(data: bytes) -> list[tuple[str, int, bytes, tuple[int, int]]]:
    """Members of a newc archive, following the format's description alone."""
    position, members = 0, []
    while True:
        assert position % 4 == 0
        assert data[position : position + 6] == b"070701"
        fields = [int(data[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        mode, size, major, minor, name_bytes = (fields[i] for i in (1, 6, 9, 10, 11))
        start = position + 110
        name = data[start : start + name_bytes - 1].decode()
        assert data[start + name_bytes - 1] == 0
        start = -(-(start + name_bytes) // 4) * 4
        if name == "TRAILER!!!":
            assert -(-start // 4) * 4 == len(data)
            return members
        members.append((name, mode, data[start : start + size], (major, minor)))
        position = -(-(start + size) // 4) * 4


@given(st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=8))
def test_every_member_comes_back_whatever_its_length(files: list[tuple[str, bytes]]) -> None:
    archive = cpio.archive(cpio.file(name, data) for name, data in files)
    assert [(n, d) for n, _, d, _ in read(archive)] == files


def test_modes_and_devices() -> None:
    archive = cpio.archive(
        [
            cpio.folder("root", 0o700),
            cpio.file("init", b"#!", 0o755),
            cpio.symlink("sh", "busybox"),
            cpio.character_device("dev", 5, 1),
        ]
    )
    folder, init, link, device = read(archive)
    assert folder[1] == stat.S_IFDIR | 0o700
    assert init[1] == stat.S_IFREG | 0o755
    assert (stat.S_ISLNK(link[1]), link[2]) == (True, b"busybox")
    assert (stat.S_ISCHR(device[1]), device[3]) == (True, (5, 1))


def test_parents_come_first_and_once() -> None:
    entries = cpio.with_parents(
        [cpio.file("a/b/c", b""), cpio.file("a/b/d", b""), cpio.folder("a", 0o700)]
    )
    assert [e.name for e in entries] == ["a", "a/b", "a/b/c", "a/b/d"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a\0b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="member name"):
        cpio.archive([cpio.file(name, b"")])


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_itself_can_list_it() -> None:
    archive = cpio.archive([cpio.folder("etc"), cpio.file("etc/x", b"12345")])
    done = subprocess.run(["cpio", "-t"], input=archive, capture_output=True, check=True)
    assert done.stdout.decode().split() == ["etc", "etc/x"]
