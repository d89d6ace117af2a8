"""Files that are there whole or not at all.

They are written under another name in the same folder and renamed when they are whole. That name
says who writes, so that two processes never write into one, and the next one to write the same file
removes what a killed process left.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgequant.core.errors import DataSetError
from edgequant.core.host import mark_of_this_process, may_be_at_work

PARTIAL = ".partial"
"""How the name of an unfinished file ends."""


@contextlib.contextmanager
def whole_file(path: Path, *, mode: int | None = None, sync: bool = False) -> Iterator[Path]:
    """Write a file so that it is either whole or as it was before.

    Args:
        path: in a folder that exists.
        mode: permission bits, whatever the umask; until it is whole only its owner may read or
            write it. By default whoever writes it decides.
        sync: whether it is on the disk before it takes its place.

    Yields:
        The path to write to, which is absent, or an empty file where there is a ``mode``. It takes
        the place of ``path`` at the end of the block, and is removed where the block raises.
    """
    for left in partials_of(path):
        if may_be_at_work(left.name.removesuffix(PARTIAL).rpartition(".")[2]) is False:
            left.unlink(missing_ok=True)
    partial = path.with_name(f"{path.name}.{mark_of_this_process()}{PARTIAL}")
    try:
        if mode is not None:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        yield partial
        if mode is not None:
            partial.chmod(mode)
        if sync:
            with partial.open("rb") as stream:
                os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def partials_of(path: Path) -> list[Path]:
    """The unfinished files that were to become this one, of whichever process."""
    return list(path.parent.glob(f"{glob.escape(path.name)}.*{PARTIAL}"))


def write_text_whole(path: Path, text: str, *, mode: int | None = None, sync: bool = False) -> None:
    """Write a text in UTF-8, as :func:`whole_file`."""
    with whole_file(path, mode=mode, sync=sync) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON, as :func:`whole_file`."""
    write_text_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file's content, as :func:`whole_file`."""
    with whole_file(target) as partial:
        shutil.copyfile(source, partial)


def read_text(path: Path) -> str:
    """A file of plain text that somebody names.

    Raises:
        DataSetError: there is none, it cannot be read, or it is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataSetError(f"cannot be read: {error.strerror or error}", subject=path) from error
    except UnicodeError as error:
        raise DataSetError(f"is no UTF-8 text: {error}", subject=path) from error
