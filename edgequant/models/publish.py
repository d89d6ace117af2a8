"""Put model files from the store into a folder of the user's."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgequant.core.disk import is_disk_full, no_space_left
from edgequant.core.errors import FileAccessError
from edgequant.core.files import whole_file
from edgequant.core.progress import task
from edgequant.models.model_file import ModelFile
from edgequant.models.model_set import ModelSet


def publish(models: ModelSet, out: Path) -> dict[str, Path]:
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
            file.name: _place(file.path, out / _published_name(models, file)) for file in models
        }
    except OSError as error:
        if is_disk_full(error):
            raise no_space_left(out, "placing the models") from error
        raise FileAccessError(
            f"cannot be written to: {error.strerror}",
            subject=out,
            next_step="give another folder with --out",
        ) from error


def _published_name(models: ModelSet, file: ModelFile) -> str:
    """The file's own name; where two variants' files share it (or a file), each its variant's."""
    sharing = sum(other.path.name == file.path.name for other in models)
    return file.path.name if sharing == 1 else f"{models.name}-{file.name}.gguf"


def _place(source: Path, target: Path) -> Path:
    if target.exists() and target.samefile(source):
        return target
    with whole_file(target) as partial:
        try:
            partial.hardlink_to(source)
        except OSError:
            with task(f"Copying {source.name}"):
                shutil.copyfile(source, partial)
    return target
