"""Rounding whose errors are made good by the columns that are rounded later.

After GPTQ (Frantar et al., arXiv 2210.17323). The error of a layer's output under a rounding Q of
its weight W is ``trace((W - Q) H (W - Q)^T)`` with ``H = X^T X`` over the inputs X. Columns are
rounded from left to right; with U the upper Cholesky factor of ``H^-1`` (``H^-1 = U^T U``), the
error e of column i is spread over the later ones: ``W[:, j] -= e * U[i, j] / U[i, i]``, which is
their best answer to it.

The grid is ggml's own: a block of columns gets its scales from ggml's quantizer when its turn
comes, on what compensation has made of it by then; its codes are then chosen column by column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg

from edgequant.models.formats.codes import CODED, Codes, code_bits, write_codes
from edgequant.models.formats.quantizer import Bytes, Floats, Quantizer
from edgequant.models.formats.types import tensor_types, type_numbers

SCALED_AT_ONCE = 256
"""Columns whose scales are chosen together, where blocks are shorter: scales stay up to date."""
UPDATED_AT_ONCE = 32
"""Columns after which all later ones are brought up to date, in one product of matrices."""
VALUES_AT_ONCE = 1 << 21
"""Rows do not depend on each other: so many numbers of them are worked on in memory."""
DAMPING = 0.05
SWEEPS = 4

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rounded:
    """A weight in a type's blocks.

    Attributes:
        data: shape (rows, bytes of a row).
        values: what it stands for, shape (rows, columns).
    """

    data: Bytes
    values: Floats


def output_error(difference: Floats, products: Doubles) -> float:
    """``trace(D H D^T)``: the squared error of a layer's output, summed over what made H."""
    return float(np.einsum("rc,rc->", difference @ products, difference))


def damped(products: Doubles, damping: float) -> Doubles:
    """H with a share of its mean diagonal added; columns that are never used count as such."""
    found = products.copy()
    diagonal = np.einsum("ii->i", found)
    mean = float(diagonal.mean())
    if mean <= 0:
        return np.eye(len(found))
    diagonal += damping * mean
    return found


def inverse_factor(products: Doubles) -> Doubles:
    """The upper U with ``U^T U = H^-1``."""
    inverse = linalg.cho_solve(linalg.cho_factor(products), np.eye(len(products)))
    upper: Doubles = linalg.cholesky(inverse, lower=False)
    return upper


def compensated(
    values: Floats,
    products: Doubles,
    type: str,
    quantizer: Quantizer,
    *,
    importance: Floats | None = None,
    damping: float = DAMPING,
    sweeps: int = SWEEPS,
) -> Rounded:
    """Round a weight to a type, each error made good by the columns to come.

    Args:
        values: the weight, shape (rows, columns).
        products: ``X^T X`` of its inputs, shape (columns, columns).
        type: name of a ggml type.
        quantizer: ggml's.
        importance: of columns, for the choice of scales; by default the diagonal of H.
        damping: share of H's mean diagonal that is added to it.
        sweeps: how often the codes are gone over again, each set to what is best with the others.

    Raises:
        QuantizationError: the weight cannot be stored in the type.
    """
    hessian = damped(products, damping)
    upper = inverse_factor(hessian).astype(np.float32)
    weights = importance if importance is not None else np.diagonal(hessian).astype(np.float32)
    few = max(1, VALUES_AT_ONCE // values.shape[1])
    parts = []
    for rows in _slices(len(values), few):
        start = _rounded(values[rows], upper, type, quantizer, weights)
        if type in CODED:
            start = refined(values[rows], start, hessian, type, quantizer, sweeps)
        parts.append(start)
    return Rounded(
        np.concatenate([part.data for part in parts]),
        np.concatenate([part.values for part in parts]),
    )


def _rounded(
    values: Floats, upper: Floats, type: str, quantizer: Quantizer, weights: Floats
) -> Rounded:
    kind = tensor_types()[type_numbers()[type]]
    size = max(kind.block_elements, SCALED_AT_ONCE // kind.block_elements * kind.block_elements)
    left = values.astype(np.float32).copy()
    parts: list[Rounded] = []
    for block in _slices(left.shape[1], size):
        part, errors = _block(left[:, block], upper[block, block], type, quantizer, weights[block])
        left[:, block.stop :] -= errors @ upper[block, block.stop :]
        parts.append(part)
    return Rounded(
        np.hstack([part.data for part in parts]), np.hstack([part.values for part in parts])
    )


def _block(
    values: Floats, upper: Floats, type: str, quantizer: Quantizer, weights: Floats
) -> tuple[Rounded, Floats]:
    """One block, and its errors, each over its place in U's diagonal."""
    data = quantizer.quantize(values, type, weights)
    if type not in CODED:
        rounded = quantizer.dequantize(data, type, values.shape[1])
        errors = linalg.solve_triangular(upper, (values - rounded).T, trans="T", lower=False)
        return Rounded(data, rounded), np.ascontiguousarray(errors.T)
    levels = Levels(data, type, quantizer, values.shape[1])
    left = values.T.copy()
    codes = np.empty(left.shape, dtype=np.uint8)
    errors = np.empty_like(left)
    for few in _slices(len(left), UPDATED_AT_ONCE):
        for column in range(few.start, few.stop):
            codes[column] = levels.nearest(column, left[column])
            own = levels.at(column, codes[column])
            errors[column] = (left[column] - own) / upper[column, column]
            later = slice(column + 1, few.stop)
            left[later] -= np.outer(upper[column, later], errors[column])
        left[few.stop :] -= upper[few, few.stop :].T @ errors[few]
    data = write_codes(data, type, codes.T)
    return Rounded(data, quantizer.dequantize(data, type, values.shape[1])), errors.T


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


class Levels:
    """What each code stands for at each place of some rows, with their scales as they are."""

    def __init__(self, data: Bytes, type: str, quantizer: Quantizer, columns: int) -> None:
        count = 1 << code_bits(type)
        self._last = count - 1
        self._linear = not type.startswith("IQ")
        wanted = (0, 1) if self._linear else range(count)
        found = [
            quantizer.dequantize(
                write_codes(data, type, np.full(1, code, np.uint8)), type, columns
            ).T
            for code in wanted
        ]
        # Shape (columns, rows): a column at a time is asked for.
        self._levels = [np.ascontiguousarray(level) for level in found]
        if self._linear:
            self._step = self._levels[1] - self._levels[0]
            self._inverse = np.divide(
                1, self._step, out=np.zeros_like(self._step), where=self._step != 0
            )

    def nearest(self, column: int, values: Floats) -> Codes:
        """The code nearest to each row's value in a column."""
        if self._linear:
            steps = (values - self._levels[0][column]) * self._inverse[column]
            codes = np.clip(np.rint(steps), 0, self._last)
        else:
            codes = np.argmin([np.abs(values - level[column]) for level in self._levels], axis=0)
        found: Codes = codes.astype(np.uint8)
        return found

    def at(self, column: int, codes: Codes) -> Floats:
        """What codes stand for in a column."""
        if self._linear:
            found: Floats = self._levels[0][column] + codes * self._step[column]
            return found
        return np.choose(codes, [level[column] for level in self._levels])


def refined(
    values: Floats, start: Rounded, products: Doubles, type: str, quantizer: Quantizer, sweeps: int
) -> Rounded:
    """Go over all codes again, scales as they are: each becomes the best one with all others.

    The error of the output never grows by it, but for what rounding to 32 bits does.
    """
    if not sweeps:
        return start
    levels = Levels(start.data, type, quantizer, values.shape[1])
    scaled = (products / np.diagonal(products)).astype(np.float32)
    now = start.values.T.copy()
    target = values.T.astype(np.float32)
    codes = np.empty(now.shape, dtype=np.uint8)
    for _ in range(sweeps):
        for few in _slices(len(now), UPDATED_AT_ONCE):
            # pull[i] = sum over j of H[j, i] / H[i, i] * (w[j] - q[j]), held up to date.
            pull = scaled[:, few].T @ (target - now)
            for place, column in enumerate(range(few.start, few.stop)):
                codes[column] = levels.nearest(column, now[column] + pull[place])
                change = levels.at(column, codes[column]) - now[column]
                pull[place + 1 :] -= np.outer(scaled[column, few][place + 1 :], change)
                now[column] += change
    data = write_codes(start.data, type, codes.T)
    return Rounded(data, quantizer.dequantize(data, type, values.shape[1]))
