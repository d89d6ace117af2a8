"""A full disk of this machine, told apart from other failures."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from edgequant.core.errors import DiskFullError, EdgequantError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that a disk or a quota is full.

    Some libraries (polars) raise classes of their own that have only the text of it.
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
