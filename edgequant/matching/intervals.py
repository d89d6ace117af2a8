"""Intervals and tests for shares of right answers: closed forms, and a paired bootstrap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]


def wilson_interval(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a share.

    Args:
        right: how many of the questions were answered right.
        n: how many questions there were.
        z: quantile of the normal distribution, by default for 95 %.

    Returns:
        Low and high end, within 0 to 1. Exactly 0 (or 1) where none (or all) were right.

    Raises:
        ValueError: no question, or more right answers than questions.
    """
    if n <= 0:
        raise ValueError("an interval needs at least one question")
    if not 0 <= right <= n:
        raise ValueError(f"{right} right answers of {n}")
    share = right / n
    denominator = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the edges the closed form is exact only up to rounding.
    low = 0.0 if right == 0 else max(0.0, centre - half)
    high = 1.0 if right == n else min(1.0, centre + half)
    return low, high


def mcnemar_p(first: BoolArray, second: BoolArray) -> float:
    """Exact two-sided McNemar test: are two ways equally often right on the same questions?

    Args:
        first: right or wrong for each question, shape (n,).
        second: the same questions under the other way.

    Returns:
        The p-value; 1 where the two never differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"shapes {first.shape} and {second.shape} are not the same questions")
    only_first = int(np.count_nonzero(first & ~second))
    only_second = int(np.count_nonzero(second & ~first))
    return _sign_test_p(only_first, only_second)


def _sign_test_p(a: int, b: int) -> float:
    """Two-sided p-value of a against b under a fair coin."""
    n = a + b
    # Logarithms: 2**-n underflows from about a thousand differing questions on.
    log_terms = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in range(min(a, b) + 1)
    ]
    return min(1.0, 2 * sum(map(math.exp, log_terms)))


def resampling_weights(n: int, resamples: int, seed: int) -> FloatArray:
    """How often each question is drawn in each resample, as shares.

    Args:
        n: number of questions.
        resamples: number of bootstrap resamples.
        seed: of the random numbers, so that a result can be had again.

    Returns:
        Shape (resamples, n); each row sums to 1, so ``weights @ correct`` is an accuracy.
    """
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(n, np.full(n, 1 / n), size=resamples)
    return (counts / n).astype(np.float32)


def percentile_interval(
    values: Sequence[float] | npt.NDArray[np.floating], level: float = 0.95
) -> tuple[float, float]:
    """The middle ``level`` of bootstrap values."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(values, dtype=np.float64), [tail, 1 - tail])
    return float(low), float(high)
