"""The source pin: which archive of llama.cpp everything is built from."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgequant.core.errors import SourceError
from edgequant.core.paths import data_folder

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
    try:
        return SourceLock.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SourceError("there is no lock file here", subject=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(f"is not valid TOML: {error}", subject=path) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SourceError(f"{where}: {first['msg']}", subject=path) from error
