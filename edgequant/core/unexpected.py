"""What no stage explained itself: one clear error all the same."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from pathlib import Path

from edgequant.core.disk import is_disk_full, no_space_left
from edgequant.core.errors import EdgequantError, FileAccessError, InternalError
from edgequant.core.paths import cache_root


def explain(error: Exception) -> EdgequantError:
    """The error to show in place of a traceback.

    A full disk and a file that cannot be used are told apart; anything else is a mistake of ours,
    and its traceback is kept in a file.
    """
    if is_disk_full(error):
        return no_space_left(_file_of(error))
    if isinstance(error, OSError) and error.filename is not None:
        return FileAccessError(
            f"cannot be used: {error.strerror}",
            subject=_file_of(error),
            next_step="correct the path or its permissions, or point EDGEQUANT_CACHE elsewhere",
        )
    return InternalError(
        f"unexpected {type(error).__name__}: {error}",
        next_step=f"report it with the traceback in {_keep_traceback(error)}",
    )


def _file_of(error: Exception) -> str | None:
    """The file an error is about; of a copy, the one that is written."""
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return None if name is None else os.fsdecode(name)


def _keep_traceback(error: Exception) -> Path:
    text = "".join(traceback.format_exception(error))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for make_folder in (_logs_folder, tempfile.gettempdir):
        try:
            path = Path(make_folder()) / name
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError:
            continue
        return path
    return Path(os.devnull)


def _logs_folder() -> str:
    folder = cache_root() / "logs"
    folder.mkdir(exist_ok=True)
    return str(folder)
