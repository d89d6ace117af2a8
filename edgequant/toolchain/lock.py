"""The source pin: which archive of llama.cpp everything is built from."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from edgequant.core.errors import SourceError
from edgequant.core.paths import data_folder
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


def load_lock(path: Path | None = None) -> SourceLock:
    """Read a lock file, by default the shipped one.

    Raises:
        SourceError: the file is missing or invalid.
    """
    path = path if path is not None else data_folder("toolchain") / LOCK_NAME
    return read_toml_model(path, SourceLock, error=SourceError)
