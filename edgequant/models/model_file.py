"""A GGUF as every stage takes it: hashed once, its header read."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from edgequant.core.artefact import Artefact, Store, load_artefact
from edgequant.core.errors import ArtefactError
from edgequant.core.hashing import sha256_file
from edgequant.models.contents import Contents, read_contents
from edgequant.models.formats.gguf import GgufInfo, bytes_per_token, read_gguf

STAGE = "models"


IMPORTANCE_SUFFIX = ".imatrix"
"""Of a file beside a model that says how much each column of its weights matters."""


@dataclass(frozen=True)
class Importance:
    """An importance matrix, in llama.cpp's own form (a GGUF)."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class ModelFile:
    """One variant's file."""

    name: str
    """The variant's."""
    path: Path
    sha256: str
    header: GgufInfo
    artefact: Artefact | None = None
    """What holds it; None for a file of the user's that is used where it lies."""
    importance: Importance | None = None
    """What goes with it; None where none was made of this very file."""

    @classmethod
    def of_artefact(
        cls, name: str, artefact: Artefact, source: ModelFile | None = None
    ) -> ModelFile:
        """The one GGUF of an artefact, with its importance matrix where it has one.

        Args:
            name: the variant's.
            artefact: of a step.
            source: what the step was given: an artefact with nothing but an importance matrix
                adds that to it.

        Raises:
            ArtefactError: it has no GGUF, or several.
            GgufError: the file is damaged.
        """
        importance = _importance_of(artefact)
        names = [file for file in artefact.manifest.files if file.endswith(".gguf")]
        if not names and source is not None and importance is not None:
            return replace(source, name=name, importance=importance)
        if len(names) != 1:
            raise ArtefactError("has not exactly one GGUF file", subject=artefact.folder)
        path = artefact.file(names[0])
        sha256 = artefact.manifest.files[names[0]].sha256
        return cls(name, path, sha256, read_gguf(path), artefact, importance)

    @classmethod
    def of_path(cls, name: str, path: Path) -> ModelFile:
        """A file of the user's; a large one is hashed only if it was not hashed before.

        Raises:
            GgufError: it is missing, damaged or no GGUF.
        """
        header = read_gguf(path)
        return cls(name, path, sha256_file(path), header)

    @property
    def inputs(self) -> dict[str, str]:
        """What of it decides what a step makes: names and SHA-256 for the step's recipe."""
        found = {"gguf": self.sha256}
        return found if self.importance is None else {
            **found, "importance": self.importance.sha256,
        }  # fmt: skip

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return self.header.file_bytes

    @property
    def bits_per_weight(self) -> float:
        """Mean over all weights."""
        return self.header.bits_per_weight

    @cached_property
    def bytes_per_token(self) -> int:
        """Bytes of weights that decoding one token reads."""
        return bytes_per_token(self.header)

    @cached_property
    def contents(self) -> Contents:
        """What the file really holds."""
        return read_contents(self.header, self.name)

    @property
    def fallback_tensors(self) -> int:
        """Tensors that fell back to another type when it was made; 0 where nobody knows."""
        if self.artefact is None:
            return 0
        fallback = self.artefact.manifest.details.get("fallback")
        return len(fallback) if isinstance(fallback, list) else 0


def _importance_of(artefact: Artefact) -> Importance | None:
    for name, record in artefact.manifest.files.items():
        if name.endswith(IMPORTANCE_SUFFIX):
            return Importance(artefact.file(name), record.sha256)
    return None


def find_file(sha256: str, store: Store | None = None) -> Path | None:
    """The file of a model that was made here; None where none is kept any more.

    Args:
        sha256: hex SHA-256 of the file.
        store: where artefacts are kept, by default the cache.
    """
    folder = (store if store is not None else Store()).root / STAGE
    # Beside the artefacts lie the locks of those being made.
    for place in sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else ():
        with contextlib.suppress(ArtefactError):
            artefact = load_artefact(place)
            for name, record in artefact.manifest.files.items():
                if record.sha256 == sha256:
                    return artefact.file(name)
    return None
