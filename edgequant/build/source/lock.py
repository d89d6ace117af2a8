"""The source pin: which archive of llama.cpp everything is built from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edgequant.core.errors import SourceError
from edgequant.core.paths import data_folder, data_folders
from edgequant.core.toml_file import read_toml_model

LOCK_NAME = "llama_cpp.lock.toml"


class SourceLock(BaseModel):
    """One released source archive, named so that nothing else can take its place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str
    """Name of the project on the Python package index."""
    version: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hex SHA-256 of the source archive."""
    llama_cpp_commit: str = Field(pattern="^[0-9a-f]{7,40}$")
    """Commit of llama.cpp that the archive carries."""


def lock_path() -> Path:
    """The lock file in force: one in ``toolchain/`` where you are hides the shipped one."""
    for folder in data_folders("toolchain"):
        if (folder / LOCK_NAME).is_file():
            return folder / LOCK_NAME
    return data_folder("toolchain") / LOCK_NAME


def load_lock(path: Path | None = None) -> SourceLock:
    """Read a lock file, by default the one in force.

    Raises:
        SourceError: the file is missing or invalid.
    """
    return read_toml_model(path or lock_path(), SourceLock, error=SourceError)
