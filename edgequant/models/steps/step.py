"""What every step is: from one model file to another, found again by its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.models.formats.gguf import GgufInfo
from edgequant.models.model_file import STAGE as STAGE
from edgequant.models.model_file import ModelFile

SPARE_BYTES = 64 << 20
"""What is left free on the disk beside the file itself."""


class HostSource(Protocol):
    """The llama.cpp tree of a build."""

    @property
    def folder(self) -> Path: ...


class HostBuild(Protocol):
    """What is needed of this machine's build of llama.cpp."""

    def binary(self, name: str) -> Path: ...

    @property
    def source(self) -> HostSource: ...

    @property
    def llama_cpp_commit(self) -> str: ...


class Step(Protocol):
    """One step of a variant."""

    def recipe(self, source: ModelFile, model: str, host: HostBuild) -> Recipe | None:
        """All that decides what comes out; None: the source itself is what would come out."""
        ...

    def make(self, source: ModelFile, model: str, host: HostBuild, draft: ArtefactDraft) -> None:
        """Write the file into the draft.

        Raises:
            EdgequantError: it cannot be made.
        """
        ...


def header_facts(info: GgufInfo) -> dict[str, object]:
    """What of a header stands in the manifest of the artefact that holds the file."""
    return {
        "architecture": info.architecture,
        "parameter_count": info.parameter_count,
        "bits_per_weight": round(info.bits_per_weight, 4),
        "tensors": len(info.tensors),
    }
