"""Scales folded into the model, so that the channels that matter are rounded less.

After AWQ (Lin et al., arXiv 2306.00978): a channel's scale is ``s = x ** alpha``, with x the root
mean square of the channel's inputs, and alpha is searched on a grid for each group of weights with
one input. What is minimised is the error of their outputs under the very quantizer that will be
used: ``trace(D H D^T)`` with ``D = W - Q(W s) / s`` and ``H = X^T X`` over the inputs X.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import require_space
from edgequant.core.errors import QuantizationError
from edgequant.core.progress import Task, task
from edgequant.models.compensate import output_error
from edgequant.models.float_weights import FloatWeights, spread_rows
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.graph import FOLDED, Fold, folds, require_architecture
from edgequant.models.model_file import ModelFile
from edgequant.models.products import products_of
from edgequant.models.steps.registry import stores_weights
from edgequant.models.steps.step import SPARE_BYTES, STAGE, StepContext, header_facts
from edgequant.models.steps.to_come import stored_types
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary

# Raise it when a change here makes other files from the same inputs.
RECIPE = 1
WORD = "awq"
INT4 = "int4"
GRID = tuple(step / 20 for step in range(20))
"""Exponents that are tried; 0 leaves the weights as they are."""
SAMPLED_ROWS = 256
"""Rows of each weight that the search rounds, spread evenly."""
SMALLEST = 1e-4
"""No channel counts as smaller than this share of the largest."""
GROUP = 128
UNWEIGHED = frozenset({"F32", "F16", "BF16"})

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rounding = Callable[[str, Floats, Floats], Floats]
"""What is left of a weight's rows after rounding: name, values, mean squares of the inputs."""


class Awq:
    """The step ``awq``, or ``awq:int4`` with the classic objective (4 bits, groups of 128).

    Args:
        objective: ``int4``, or nothing: the quantizer of the steps to come.

    Raises:
        QuantizationError: another objective.
    """

    def __init__(self, objective: str | None = None) -> None:
        if objective not in (None, INT4):
            raise QuantizationError(
                f"{WORD} knows no objective {objective!r}",
                next_step=f"use {WORD} or {WORD}:{INT4}",
            )
        self._objective = objective

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe:
        """See :meth:`edgequant.models.steps.step.Step.recipe`.

        Raises:
            QuantizationError: the architecture is unknown, there is nothing to calibrate on, or
                nothing says how the weights will be stored.
        """
        require_architecture(source.header, FOLDED, WORD)
        if self._objective is None and not (context.rest and stores_weights(context.rest[-1])):
            raise QuantizationError(
                f"the step {WORD} looks for what suits the type of the weights, and none follows",
                next_step=f'put one behind it: steps = ["{WORD}", "Q4_K_M"], or use {WORD}:{INT4}',
            )
        parameters: dict[str, object] = {
            "step": WORD,
            "recipe": RECIPE,
            "name": context.model,
            "objective": self._objective or list(context.rest),
            "max_bytes": None if self._objective else context.max_bytes,
            "llama_cpp_commit": context.host.llama_cpp_commit,
        }
        inputs = {"gguf": source.sha256, "calibration": context.calibration_for(WORD).sha256}
        return Recipe(STAGE, inputs, parameters, context.host.llama_cpp_commit)

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """See :meth:`edgequant.models.steps.step.Step.make`.

        Raises:
            ToolMissingError, ConversionError: the model cannot be evaluated.
            DiskFullError: too little space.
        """
        needed = 4 * source.header.parameter_count + SPARE_BYTES
        require_space(draft.folder, needed, f"scaling {context.model}")
        library = context.host.binary(LIBRARY_NAME)
        weights = FloatWeights(source.header, Quantizer(library))
        with Vocabulary(source.path, library) as vocabulary:
            passages = context.calibration_for(WORD).passages(vocabulary)
        chosen = [fold for layer in folds(source.header) for fold in layer]
        scaled = Scaled(weights)
        alphas = {}
        with (
            draft.timed(WORD),
            task(f"Scaling {context.model} with AWQ", total=len(chosen)) as shown,
        ):
            rounding = self._rounding(source, context, weights.quantizer)
            for fold, products, count in _with_products(source, library, passages, chosen, shown):
                alpha, scales = search(fold, products, count, weights, rounding)
                alphas[fold.readers[0]] = alpha
                scaled.add(fold, scales)
            after = scaled.write(draft.folder / f"{context.model}-{WORD}.gguf")
        draft.manifest.details |= {**header_facts(after), "alphas": alphas}
        after.path.chmod(0o444)

    def _rounding(self, source: ModelFile, context: StepContext, quantizer: Quantizer) -> Rounding:
        if self._objective == INT4:
            return lambda _name, values, _squares: int4(values)
        types = stored_types(source, context)
        if types is None:
            raise QuantizationError(f"{context.rest[-1]} does not say how it stores the weights")
        weighed = any(word.partition(":")[0] in ("imatrix", "gptq") for word in context.rest)

        def rounded(name: str, values: Floats, squares: Floats) -> Floats:
            type = types.get(name, "F32")
            given = squares if weighed and type not in UNWEIGHED else None
            return quantizer.rounded(values, type, given)

        return rounded


def _with_products(
    source: ModelFile,
    library: Any,
    passages: Sequence[Sequence[int]],
    chosen: Sequence[Fold],
    shown: Task,
) -> Iterator[tuple[Fold, Doubles, int]]:
    by_reader = {fold.readers[0]: fold for fold in chosen}
    for name, sums in products_of(source.header, library, passages, list(by_reader)):
        if sums is not None:
            yield by_reader[name], sums.values[0], int(sums.counts[0])
        shown.advance()


def search(
    fold: Fold,
    products: Doubles,
    count: int,
    weights: FloatWeights,
    rounding: Rounding,
) -> tuple[float, Floats]:
    """The exponent with the least error of the readers' outputs, and its scales.

    Args:
        fold: whose channels are scaled.
        products: ``X^T X`` of its readers' inputs, shape (columns, columns).
        count: rows that were summed.
        weights: of the model.
        rounding: what will be done to the readers.

    Returns:
        Scales of the channels that are written, shape (channels,).
    """
    squares = np.diagonal(products) / max(1, count)
    values = {name: spread_rows(weights.read(name), SAMPLED_ROWS) for name in fold.readers}
    size = np.sqrt(_of_written(squares, fold))
    size = np.maximum(size, SMALLEST * max(float(size.max()), SMALLEST))

    def error(scales: Floats) -> float:
        read = as_read(scales, fold)
        own = (squares / read.astype(np.float64) ** 2).astype(np.float32)
        return sum(
            output_error(matrix - rounding(name, matrix * read, own) / read, products)
            for name, matrix in values.items()
        )

    found = {}
    for alpha in GRID:
        scales = size**alpha
        scales = (scales / np.sqrt(scales.max() * scales.min())).astype(np.float32)
        found[alpha] = (error(scales), scales)
    best = min(found, key=lambda alpha: found[alpha][0])
    return best, found[best][1]


def as_read(scales: Floats, fold: Fold) -> Floats:
    """Scales of written channels, as the readers' columns have them."""
    if fold.repeated == 1:
        return scales
    found: Floats = np.repeat(scales.reshape(-1, fold.width), fold.repeated, axis=0).ravel()
    return found


def _of_written(squares: Doubles, fold: Fold) -> Doubles:
    """Mean squares of the channels that are written: over all that read them."""
    if fold.repeated == 1:
        return squares
    found: Doubles = squares.reshape(-1, fold.repeated, fold.width).mean(axis=1)
    return found.ravel()


def int4(values: Floats) -> Floats:
    """Rounded to 4 bits with a scale and a zero for every 128 columns (or the most that fit)."""
    rows, columns = values.shape
    size = next(size for size in (GROUP, 64, 32, 16, 8, 4, 2, 1) if columns % size == 0)
    groups = values.reshape(-1, size)
    low, high = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    step = np.maximum((high - low) / 15, 1e-9)
    zero = np.rint(-low / step)
    codes = np.clip(np.rint(groups / step) + zero, 0, 15)
    found: Floats = ((codes - zero) * step).reshape(rows, columns).astype(np.float32)
    return found


class Scaled:
    """A model with scales folded into it.

    Args:
        weights: of the model.
    """

    def __init__(self, weights: FloatWeights) -> None:
        self._weights = weights
        self._rows: dict[str, Doubles] = {}
        self._columns: dict[str, Doubles] = {}

    def add(self, fold: Fold, scales: Floats) -> None:
        """Scale the readers' columns, and the writers' rows by the inverse.

        Args:
            fold: none of whose weights was scaled on this side before.
            scales: of the channels that are written.
        """
        self._rows |= dict.fromkeys(fold.writers, 1 / scales.astype(np.float64))
        self._columns |= dict.fromkeys(fold.readers, as_read(scales, fold).astype(np.float64))

    def values(self, name: str) -> Doubles:
        """A weight as it becomes."""
        values = self._weights.read(name).astype(np.float64)
        if name in self._rows:
            rows = self._rows[name]
            # A norm or bias is one row of numbers, each of another channel.
            values *= rows if len(values) == 1 else rows[:, None]
        return values * self._columns.get(name, np.float64(1))

    def write(self, out: Any) -> Any:
        """The scaled model, changed weights in 32-bit floats."""
        names = {**self._rows, **self._columns}
        return self._weights.write(out, {name: partial(self.values, name) for name in names})
