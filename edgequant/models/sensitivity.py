"""How much a model's answers suffer when one of its weights is stored in a type.

The error of a weight W in a type is that of its product's output: the mean over tokens of
``|(W' - W) x| ** 2``, with the inputs' columns taken as independent: ``sum over columns j of
mean(x_j ** 2) * sum over rows i of (W'_ij - W_ij) ** 2``. It is worked out from some of the rows,
which are quantized apart from each other. What such an error does to the answers is measured: each
weight (of many: a few neighbouring layers' weights of a kind together) is changed in a model in
memory, and the divergence on calibration tokens divided by the error is its slope.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import QuantizationError
from edgequant.models.float_weights import spread_rows
from edgequant.models.formats.gguf import GgufInfo, Tensor
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.formats.rewrite import read_tensor
from edgequant.models.formats.types import bytes_of, type_named
from edgequant.models.probe import Probe

TYPES = (
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"),
    *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS", "IQ4_NL"),
    *("Q2_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"),
)
"""What a weight may be stored in, where its rows are whole blocks."""
NEED_IMPORTANCE = frozenset({"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS"})
PROBED = ("Q3_K", "Q4_0", "Q8_0")
"""Types that slopes are measured with, the first that fits: errors as large as small files have."""
SAMPLED_ROWS = 128
MAX_PROBES = 32
PROBE_OPERATIONS = 5 * 10**12
"""Additions and multiplications of all probes together: minutes on two cores."""
PROBE_LOGITS = 1 << 26
FEWEST_TOKENS, MOST_TOKENS = 256, 1024

_LAYER = re.compile(r"(?<=^blk\.)\d+(?=\.)")

Floats = npt.NDArray[np.float32]
Importance = Mapping[str, Floats]
"""Weight to mean squares of its inputs' columns, shape (experts, columns)."""
Errors = dict[str, dict[str, float]]
"""Weight to type to the error of the output."""


@dataclass(frozen=True)
class Sensitivity:
    """One weight's."""

    errors: dict[str, float]
    """Type to the error of the output."""
    slope: float
    """Divergence, in nats, for each unit of error."""


def types_for(tensor: Tensor, *, importance: bool) -> list[str]:
    """The types that a weight may be stored in.

    Args:
        tensor: the weight.
        importance: whether one is known, which some types cannot do without.
    """
    return [
        name
        for name in TYPES
        if tensor.shape[0] % type_named(name).block_elements == 0
        and (importance or name not in NEED_IMPORTANCE)
    ]


def bytes_in(tensor: Tensor, type: str) -> int:
    """Bytes of a tensor in a type."""
    return bytes_of(tensor.elements, type)


class Weights:
    """A file's weights as numbers, and what is left of them in a type.

    Args:
        info: of the 16-bit file.
        quantizer: ggml's.
        importance: what the quantizer is given; empty for none.
    """

    def __init__(self, info: GgufInfo, quantizer: Quantizer, importance: Importance) -> None:
        self.tensors = {tensor.name: tensor for tensor in info.tensors}
        self._path = info.path
        self.quantizer = quantizer
        self._importance = importance

    def has_importance(self, name: str) -> bool:
        """Whether a weight's columns have weights of their own."""
        return name in self._importance

    def quantized(self, name: str, type: str) -> npt.NDArray[np.uint8]:
        """A whole weight's bytes in a type, shape (rows, bytes of a row)."""
        parts = self.matrices(name)
        return np.concatenate(
            [self.quantizer.quantize(m, type, self.columns(name, e)) for e, m in parts]
        )

    def changed(self, name: str, type: str) -> npt.NDArray[np.uint8]:
        """What is left of a weight in a type, in the bytes of the type that it is stored in."""
        tensor = self.tensors[name]
        data = self.quantized(name, type)
        values = self.quantizer.dequantize(data, type, tensor.shape[0])
        return self.quantizer.quantize(values, tensor.type)

    def errors(self, name: str, types: Sequence[str], inputs: Floats | None) -> dict[str, float]:
        """The error of the output for each type, from some of the rows.

        Args:
            name: of the weight.
            types: to try.
            inputs: mean squares, shape (experts, columns); None where no product has it.
        """
        found = dict.fromkeys(types, 0.0)
        tensor = self.tensors[name]
        for expert, values in self.matrices(name, SAMPLED_ROWS):
            share = self._rows(tensor) / len(values)
            squares = np.ones(tensor.shape[0]) if inputs is None else inputs[expert % len(inputs)]
            for type in types:
                left = self.quantizer.rounded(values, type, self.columns(name, expert))
                found[type] += share * float(((left - values) ** 2).sum(axis=0) @ squares)
        return found

    def matrices(self, name: str, rows: int | None = None) -> Iterator[tuple[int, Floats]]:
        """Each expert's matrix, or evenly spread rows of it."""
        tensor = self.tensors[name]
        data = read_tensor(self._path, tensor)
        each = self._rows(tensor)
        for expert in range(len(data) // each):
            own = data[expert * each : (expert + 1) * each]
            if rows is not None:
                own = spread_rows(own, rows)
            yield expert, self.quantizer.dequantize(own, tensor.type, tensor.shape[0])

    def columns(self, name: str, expert: int) -> Floats | None:
        """What the quantizer is given for the columns of an expert's matrix."""
        found = self._importance.get(name)
        return None if found is None else found[expert % len(found)]

    @staticmethod
    def _rows(tensor: Tensor) -> int:
        return tensor.shape[1] if len(tensor.shape) > 1 else 1


def measure_errors(
    weights: Weights,
    names: Sequence[str],
    inputs: Importance,
    *,
    on_step: Callable[[], None] = lambda: None,
) -> Errors:
    """The error of each weight in each type that it may be stored in.

    Args:
        weights: of the file.
        names: which of them.
        inputs: mean squares of what goes into each; those without any count all columns alike.
        on_step: called after each weight.
    """
    found = {}
    for name in names:
        types = types_for(weights.tensors[name], importance=weights.has_importance(name))
        found[name] = weights.errors(name, types, inputs.get(name))
        on_step()
    return found


def measure_slopes(
    weights: Weights,
    names: Sequence[str],
    inputs: Importance,
    probe: Probe,
    *,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """The divergence for each unit of a weight's error, in nats.

    Args:
        weights: of the file.
        names: which of them.
        inputs: mean squares of what goes into each.
        probe: the same file in memory.
        on_step: called after each group that is probed.

    Raises:
        QuantizationError: a weight's rows fit no type.
    """
    slopes: dict[str, float] = {}
    for group in groups_of(names):
        probed = {name: _probed_type(weights.tensors[name]) for name in group}
        errors = {n: weights.errors(n, [type], inputs.get(n)) for n, type in probed.items()}
        divergence = probe.divergence(changes(weights, probed, probe))
        slopes |= dict.fromkeys(group, _slope(divergence, errors, probed))
        on_step()
    return slopes


def changes(
    weights: Weights, types: Mapping[str, str], probe: Probe
) -> dict[str, npt.NDArray[np.uint8]]:
    """What is left of weights in some types, for :meth:`Probe.divergence`."""
    return {name: weights.changed(name, t) for name, t in types.items() if name in probe.weights}


def measured_among_others(
    weights: Weights,
    found: Mapping[str, Sensitivity],
    types: Mapping[str, str],
    probe: Probe,
    *,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Sensitivity]:
    """Slopes anew, half of each what it was, half what is won where a group alone is left whole.

    In a small file errors do not only add up: what one of them does hangs on the others.

    Args:
        weights: of the file.
        found: as measured one by one.
        types: of all weights: the others' errors are those of these types.
        probe: the same file in memory.
        on_step: called after each group.
    """
    stored = changes(weights, types, probe)
    whole = probe.divergence(stored)
    errors = {name: own.errors for name, own in found.items()}
    slopes: dict[str, float] = {}
    for group in groups_of(list(found)):
        others = {name: data for name, data in stored.items() if name not in group}
        won = max(0.0, whole - probe.divergence(others))
        slope = _slope(won, errors, {name: types[name] for name in group})
        slopes |= {name: (found[name].slope + slope) / 2 for name in group}
        on_step()
    return {name: Sensitivity(own.errors, slopes[name]) for name, own in found.items()}


def _slope(
    divergence: float, errors: Mapping[str, Mapping[str, float]], types: Mapping[str, str]
) -> float:
    total = sum(errors[name][type] for name, type in types.items())
    return divergence / total if total else 0.0


def groups_of(names: Sequence[str], limit: int = MAX_PROBES) -> list[list[str]]:
    """Weights that are probed together: one alone, or neighbouring layers' weights of a kind.

    Args:
        names: of weights.
        limit: about how many groups there may be.
    """
    if len(names) <= limit:
        return [[name] for name in names]
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(_LAYER.sub("*", name), []).append(name)
    single = sum(len(own) == 1 for own in kinds.values())
    bands = max(1, (limit - single) // max(1, len(kinds) - single))
    return [
        [str(name) for name in band]
        for own in kinds.values()
        for band in np.array_split(np.array(own), min(bands, len(own)))
    ]


def _probed_type(tensor: Tensor) -> str:
    fitting = types_for(tensor, importance=False)
    found = next((type for type in PROBED if type in fitting), None)
    if found is None:
        raise QuantizationError(f"the rows of {tensor.name} are whole blocks of no type")
    return found


def probe_tokens(info: GgufInfo, groups: int, vocabulary: int) -> int:
    """How many tokens are probed: bounded in time and memory, at least some hundred.

    Args:
        info: of the model.
        groups: that are probed.
        vocabulary: tokens of the model.
    """
    by_time = PROBE_OPERATIONS // (2 * info.parameter_count * groups)
    by_memory = PROBE_LOGITS // vocabulary
    return int(max(FEWEST_TOKENS, min(MOST_TOKENS, by_time, by_memory)))
