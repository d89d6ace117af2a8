"""What every step is: from one model file to another, found again by its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgequant.core.artefact import ArtefactDraft, Recipe, Store
from edgequant.core.errors import QuantizationError
from edgequant.models.calibration import Calibration
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


@dataclass(frozen=True)
class StepContext:
    """What a step is given beside the file.

    Attributes:
        model: the model's name, which files are named for.
        host: this machine's build of llama.cpp.
        store: where artefacts are kept: a step may keep there what several variants share.
        calibration: what to look at the model's numbers on; None where the user gave nothing.
        rest: the words of the steps that come after; the last one often says in which types the
            weights will be stored.
        max_bytes: the variant's limit.
    """

    model: str
    host: HostBuild
    store: Store
    calibration: Calibration | None = None
    rest: tuple[str, ...] = ()
    max_bytes: int | None = None

    def calibration_for(self, step: str) -> Calibration:
        """What a step calibrates on.

        Raises:
            QuantizationError: the user gave nothing.
        """
        if self.calibration is None:
            raise QuantizationError(
                f"the step {step} needs something to calibrate on",
                subject=self.model,
                next_step="name texts or questions under [model.calibration], or with "
                "--calibration-text and --calibration-questions",
            )
        return self.calibration


class Step(Protocol):
    """One step of a variant: its class is made with the word's argument where it has one."""

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe | None:
        """All that decides what comes out; None: the source itself is what would come out."""
        ...

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """Write what comes out into the draft: one GGUF, an importance matrix, or both.

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
