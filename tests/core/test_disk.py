"""Full disks, told apart from other failures."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest

from edgequant.core.disk import (
    disk_full_explained,
    filled_up,
    free_bytes,
    is_disk_full,
    no_space_left,
    require_room,
    require_space,
)
from edgequant.core.errors import ConversionError, DiskFullError


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "no"), True),
        (OSError(errno.EDQUOT, "no"), True),
        (OSError(errno.EACCES, "No space left on device"), False),
        (RuntimeError("write failed: No space left on device"), True),
        (ConversionError("its last lines:\n  OSError: [Errno 28] kein Platz"), True),
        (RuntimeError("no space for this tensor"), False),
        (OSError("262144 requested and 78592 written"), True),
    ],
)
def test_a_full_disk_is_told_from_other_failures(error: Exception, full: bool) -> None:
    assert is_disk_full(error) is full


def test_a_program_may_say_nothing_of_the_full_disk(tmp_path: Path) -> None:
    error = ConversionError("it failed")
    assert not filled_up(error, tmp_path)
    assert filled_up(error, tmp_path, below_bytes=1 << 60)
    assert filled_up(ConversionError("No space left on device"), tmp_path)


def test_space_is_checked_first(tmp_path: Path) -> None:
    require_space(tmp_path, 1, "a build")
    with pytest.raises(DiskFullError, match=r"a build needs 1152921504\.6 GB, [\d.]+ GB are free"):
        require_space(tmp_path, 1 << 60, "a build")


def test_small_amounts_are_told_in_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgequant.core.disk.free_bytes", lambda _folder: 2_100_000)
    with pytest.raises(DiskFullError, match=r"converting needs 3\.0 MB, 2\.1 MB are free"):
        require_space(tmp_path, 3_000_000, "converting")


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError), disk_full_explained(tmp_path):
        raise KeyError("x")
    with (
        pytest.raises(DiskFullError, match=f"^{re.escape(str(no_space_left(tmp_path)))}$"),
        disk_full_explained(tmp_path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_there_is_some_space_here(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 0


def test_folders_of_one_disk_need_its_room_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgequant.core.disk.free_bytes", lambda folder: 100)
    # One of them is not there yet.
    needs = [(tmp_path, 60), (tmp_path / "later" / "on", 40)]
    require_room(needs, "both")
    with pytest.raises(DiskFullError, match="both needs"):
        require_room([*needs, (tmp_path, 1)], "both")
