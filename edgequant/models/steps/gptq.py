"""Weights stored by error-compensated rounding, in the types that another step would give them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import require_space
from edgequant.core.errors import QuantizationError
from edgequant.core.progress import Task, task
from edgequant.models.activations import Sums
from edgequant.models.compensate import (
    DAMPING,
    SWEEPS,
    compensated,
    output_error,
)
from edgequant.models.formats.quantizer import Bytes
from edgequant.models.formats.rewrite import NewTensor, rewrite
from edgequant.models.formats.types import FLOAT_TYPES, file_type_numbers
from edgequant.models.model_file import ModelFile
from edgequant.models.products import in_layer_order, products_of
from edgequant.models.sensitivity import bytes_in
from edgequant.models.steps.mix import most_stored_file_type, weights_of
from edgequant.models.steps.registry import canonical_step, step_named, stores_weights
from edgequant.models.steps.step import SPARE_BYTES, STAGE, StepContext, header_facts
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary

# Raise it when a change here makes other files from the same inputs.
RECIPE = 1
WORD = "gptq"


class Gptq:
    """The step ``gptq:WORD``: types are those of the step WORD, such as ``Q2_K`` or ``mix:Q2_K``.

    Args:
        word: of a step that stores the weights.

    Raises:
        QuantizationError: there is no such step, or it does not say its types.
    """

    stores_weights = True

    def __init__(self, word: str) -> None:
        self.word = canonical_step(word)
        self._types = step_named(self.word)
        if not stores_weights(self.word) or not hasattr(self._types, "stored_types"):
            raise QuantizationError(
                f"{WORD}:{word} names no types", next_step=f"name one, as in {WORD}:Q2_K"
            )

    def stored_types(self, source: ModelFile, context: StepContext) -> dict[str, str]:
        """See :func:`edgequant.models.steps.to_come.stored_types`."""
        found: dict[str, str] = self._types.stored_types(source, context)  # type: ignore[attr-defined]
        return found

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe | None:
        """See :meth:`edgequant.models.steps.step.Step.recipe`.

        Raises:
            QuantizationError: there is nothing to calibrate on.
        """
        types = self._types.recipe(source, context)
        if types is None:
            return None
        parameters: dict[str, object] = {
            "step": WORD,
            "recipe": RECIPE,
            "name": context.model,
            "types": types.key,
            "damping": DAMPING,
            "sweeps": SWEEPS,
            "llama_cpp_commit": context.host.llama_cpp_commit,
        }
        inputs = {**source.inputs, "calibration": context.calibration_for(WORD).sha256}
        return Recipe(STAGE, inputs, parameters, context.host.llama_cpp_commit)

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """See :meth:`edgequant.models.steps.step.Step.make`.

        Raises:
            QuantizationError: a weight cannot be stored in its type.
            ToolMissingError, ConversionError: the model cannot be evaluated.
            DiskFullError: too little space.
        """
        types = self.stored_types(source, context)
        tensors = {tensor.name: tensor for tensor in source.header.tensors}
        size = sum(bytes_in(tensors[name], type) for name, type in types.items())
        # Weights are written where they lie until all are there, and then into the file.
        require_space(draft.folder, 2 * size + SPARE_BYTES, f"quantizing {context.model}")
        out = draft.folder / f"{context.model}-{WORD}.gguf"
        with (
            draft.timed(WORD),
            task(f"Rounding {context.model} with GPTQ", total=len(types)) as shown,
            tempfile.TemporaryDirectory(dir=draft.folder) as scratch,
        ):
            work = _Work(source, context, types, Path(scratch))
            errors = work.round_all(shown)
            replaced = {
                name: NewTensor(type, tensors[name].shape, partial(work.read, name))
                for name, type in types.items()
            }
            metadata = {
                "general.file_type": self._file_type(source, types),
                "general.quantization_version": 2,
            }
            after = rewrite(source.path, out, replaced=replaced, metadata=metadata)
        draft.manifest.details |= {**header_facts(after), "types": types, "output_errors": errors}
        out.chmod(0o444)

    def _file_type(self, source: ModelFile, types: Mapping[str, str]) -> int:
        number = file_type_numbers().get(self.word)
        return most_stored_file_type(source.header, types) if number is None else number


class _Work:
    """The weights of one model, rounded one after another into files of their own."""

    def __init__(
        self, source: ModelFile, context: StepContext, types: Mapping[str, str], scratch: Path
    ) -> None:
        self._source = source
        self._types = types
        self._scratch = scratch
        self._library = context.host.binary(LIBRARY_NAME)
        self._weights = weights_of(source, context)
        self._quantizer = self._weights.quantizer
        with Vocabulary(source.path, self._library) as vocabulary:
            self._passages = context.calibration_for(WORD).passages(vocabulary)

    def round_all(self, shown: Task) -> dict[str, float]:
        """Every weight; the relative error of each one's output, where it has any."""
        errors: dict[str, float] = {}
        rounded = [name for name, type in self._types.items() if type not in FLOAT_TYPES]
        order = in_layer_order(rounded)
        found = products_of(self._source.header, self._library, self._passages, order)
        for name, sums in found:
            error = self._round(name, sums)
            if error is not None:
                errors[name] = error
            shown.advance()
        for name in self._types.keys() - set(order):
            self._round(name, None)
            shown.advance()
        return errors

    def read(self, name: str) -> Bytes:
        """The bytes of a rounded weight."""
        return np.fromfile(self._place(name), dtype=np.uint8)

    def _place(self, name: str) -> Path:
        return self._scratch / name

    def _round(self, name: str, sums: Sums | None) -> float | None:
        type = self._types[name]
        error = whole = 0.0
        with self._place(name).open("wb") as file:
            for expert, values in self._weights.matrices(name):
                weights = self._weights.columns(name, expert)
                if sums is None or not sums.counts[expert]:
                    file.write(self._quantizer.quantize(values, type, weights).data)
                    continue
                products = sums.values[expert]
                made = compensated(values, products, type, self._quantizer, importance=weights)
                file.write(np.ascontiguousarray(made.data).data)
                error += output_error(values - made.values, products)
                whole += output_error(values, products)
        return error / whole if whole else None
