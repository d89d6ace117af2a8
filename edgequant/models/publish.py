"""Put model files from the store into a folder of the user's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edgequant.core.disk import is_disk_full
from edgequant.core.errors import DiskFullError, FileAccessError
from edgequant.core.progress import task
from edgequant.models.steps.quantize import Models


def publish(models: Models, out: Path) -> dict[str, Path]:
    """Hard-link every quantization into a folder, or copy it where links do not work.

    Returns:
        Quantization to the file's path in ``out``; a file that is there already is replaced.

    Raises:
        DiskFullError: no space left where ``out`` is.
        FileAccessError: ``out`` is not a folder, or cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return {
            quantization: _place(models.gguf(quantization), out) for quantization in models.types
        }
    except OSError as error:
        if is_disk_full(error):
            raise DiskFullError("no space left for the models", subject=out) from error
        raise FileAccessError(
            f"cannot be written to: {error.strerror}",
            subject=out,
            next_step="give another folder with --out",
        ) from error


def _place(source: Path, out: Path) -> Path:
    target = out / source.name
    if target.exists() and target.samefile(source):
        return target
    # Whole under another name first: nobody ever sees half a file under the right one.
    partial = out / f".{source.name}.partial-{os.getpid()}"
    partial.unlink(missing_ok=True)
    try:
        try:
            partial.hardlink_to(source)
        except OSError:
            with task(f"Copying {source.name}"):
                shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
