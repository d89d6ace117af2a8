"""One model in several variants: what all later stages work on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgequant.core.errors import QuantizationError
from edgequant.models.contents import content_notes, marked, same_tensors
from edgequant.models.model_file import ModelFile


@dataclass(frozen=True)
class ModelRow:
    """One line of the table of models."""

    file: ModelFile
    same_as: str | None
    """The variant before it that has the very same tensors."""

    @property
    def marked_name(self) -> str:
        """The name, and what it hides: ``Q3_K_S = Q2_K``, ``Q2_K (name only)``."""
        return marked(self.file.name, self.file.contents.holds_named_type, self.same_as)

    def as_dict(self) -> dict[str, object]:
        """Plain values."""
        file = self.file
        return {
            "quantization": file.name,
            "path": str(file.path),
            "bytes": file.bytes,
            "bits_per_weight": round(file.bits_per_weight, 4),
            "sha256": file.sha256,
            "fallback_tensors": file.fallback_tensors,
            "tensors": dict(file.contents.tensors),
            "weight_share": file.contents.rounded_share,
            "holds_named_type": file.contents.holds_named_type,
            "same_as": self.same_as,
        }


@dataclass(frozen=True)
class ModelSet:
    """The variants of a model, in the order asked for."""

    name: str
    files: Mapping[str, ModelFile]
    base: ModelFile | None = None
    """The 16-bit file that they were made from; None where the files were there already."""

    def __iter__(self) -> Iterator[ModelFile]:
        return iter(self.files.values())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, name: str) -> ModelFile:
        """One variant's file.

        Raises:
            QuantizationError: it was not made.
        """
        if name not in self.files:
            raise QuantizationError(
                f"{self.name} has no variant {name}", next_step=f"add --type {name}"
            )
        return self.files[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The variants' names."""
        return tuple(self.files)

    @property
    def paths(self) -> dict[str, Path]:
        """Each variant's name to its file."""
        return {file.name: file.path for file in self}

    @property
    def inputs(self) -> dict[str, str]:
        """What the model was made from: name to SHA-256."""
        if self.base is None or self.base.artefact is None:
            return {}
        return dict(self.base.artefact.manifest.inputs)

    @property
    def tokenizer_check(self) -> object:
        """What the tokenizer comparison found, as plain values; None where there was none."""
        if self.base is None or self.base.artefact is None:
            return None
        return self.base.artefact.manifest.details.get("tokenizer_check")

    @cached_property
    def table(self) -> list[ModelRow]:
        """One row for each variant."""
        same = same_tensors({file.name: file.header for file in self})
        return [ModelRow(file, same.get(file.name)) for file in self]

    @cached_property
    def notes(self) -> list[str]:
        """What a reader of the variants' names would take wrongly."""
        return content_notes(
            {file.name: file.contents for file in self},
            {row.file.name: row.same_as for row in self.table if row.same_as is not None},
            {file.name: file.fallback_tensors for file in self},
        )
