"""A full disk of this machine, told apart from other failures."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgequant.core.errors import DiskFullError, EdgequantError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SHORT_WRITE = re.compile(r"\b\d+ requested and \d+ written")
"""numpy's words for what it could not write all of; it says no reason."""
_NEXT_STEP = "free some space and run again, or point EDGEQUANT_CACHE at another disk"


def free_bytes(folder: Path) -> int:
    """Free space on a folder's disk that this user may fill."""
    return shutil.disk_usage(folder).free


def free_bytes_below(folder: Path) -> int:
    """As :func:`free_bytes`, of a folder that may not be there yet."""
    return free_bytes(_there(folder))


def _there(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that a disk or a quota is full.

    Some libraries, and programs that failed, have only the text of it.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return says_disk_full(str(error))


def says_disk_full(text: str) -> bool:
    """Whether what a program printed says that a disk or a quota is full."""
    words = [part.lower() for code in _FULL for part in (os.strerror(code), f"[Errno {code}]")]
    return any(part in text.lower() for part in words) or _SHORT_WRITE.search(text) is not None


def filled_up(error: BaseException, where: Path, *, below_bytes: int = 1 << 20) -> bool:
    """Whether a program may have failed because the disk is full, even where it does not say so.

    Args:
        error: of the failed program.
        where: a folder on the disk it wrote to.
        below_bytes: the disk counts as full where less is free.
    """
    return is_disk_full(error) or free_bytes(where) < below_bytes


def no_space_left(subject: object | None, doing: str | None = None) -> DiskFullError:
    """The error for a disk that filled up.

    Args:
        subject: file or folder that was written to.
        doing: what was being done.
    """
    where = f" while {doing}" if doing is not None else " on this machine's disk"
    return DiskFullError(f"no space left{where}", subject=subject, next_step=_NEXT_STEP)


@contextlib.contextmanager
def disk_full_explained(subject: Path) -> Iterator[None]:
    """Turn what a full disk raises inside the block into one clear error.

    Args:
        subject: the folder that is written to.

    Raises:
        DiskFullError: the disk is full; other exceptions pass as they are.
    """
    try:
        yield
    except EdgequantError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise no_space_left(subject) from error


def require_room(needs: Sequence[tuple[Path, int]], what: str) -> None:
    """As :func:`require_space`, of folders that may share a disk, and may not be there yet.

    Args:
        needs: folders, and the bytes that go into each.
        what: needs them, for the message.

    Raises:
        DiskFullError: a disk has less free than its folders need together.
    """
    disks: dict[int, tuple[Path, int]] = {}
    for folder, needed_bytes in needs:
        there = _there(folder)
        first, sum_bytes = disks.get(there.stat().st_dev, (there, 0))
        disks[there.stat().st_dev] = (first, sum_bytes + needed_bytes)
    for where, needed_bytes in disks.values():
        require_space(where, needed_bytes, what)


def require_space(where: Path, needed_bytes: int, what: str) -> None:
    """Stop before a disk fills up, not after.

    Args:
        where: a folder on the disk.
        needed_bytes: that must be free.
        what: needs them, for the message.

    Raises:
        DiskFullError: less is free.
    """
    free = free_bytes(where)
    if free < needed_bytes:
        unit, name = (1e9, "GB") if needed_bytes >= 1e9 else (1e6, "MB")
        raise DiskFullError(
            f"{what} needs {needed_bytes / unit:.1f} {name}, {free / unit:.1f} {name} are free",
            subject=where,
            next_step=_NEXT_STEP,
        )
