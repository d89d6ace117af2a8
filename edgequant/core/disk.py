"""A full disk of this machine, told apart from other failures."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgequant.core.errors import DiskFullError, EdgequantError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that a disk or a quota is full.

    Some libraries raise classes of their own that have only the text of it.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    return any(os.strerror(code) in str(error) for code in _FULL)


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
        raise DiskFullError(
            "no space left on this machine's disk",
            subject=subject,
            next_step="free some space, or point EDGEQUANT_CACHE at another disk",
        ) from error


def require_space(where: Path, needed_bytes: int, what: str) -> None:
    """Stop before a disk fills up, not after.

    Args:
        where: a folder on the disk.
        needed_bytes: that must be free.
        what: needs them, for the message.

    Raises:
        DiskFullError: less is free.
    """
    free = shutil.disk_usage(where).free
    if free < needed_bytes:
        raise DiskFullError(
            f"{what} needs {needed_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            subject=where,
            next_step="free some space, or point EDGEQUANT_CACHE at another disk",
        )
