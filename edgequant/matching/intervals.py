"""Intervals and exact tests for shares of right answers, paired by question. No random numbers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
Z_95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""
MOST_QUESTIONS = 1_000_000
"""More than this are not worth being named: no set of questions is as large."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


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


def mcnemar_ahead_p(only_first: npt.ArrayLike, only_second: npt.ArrayLike) -> Floats:
    """Exact one-sided McNemar test: is the first way not more often right than the second?

    Args:
        only_first: questions that only the first way answers right, any shape.
        only_second: those that only the second does, of the same shape.

    Returns:
        p-values of that shape: small where the first is ahead; 1 where it is right nowhere alone.
    """
    # Not scipy.stats, which takes seconds to import.
    from scipy import special

    first, second = np.asarray(only_first, np.int64), np.asarray(only_second, np.int64)
    return np.asarray(special.bdtr(second, first + second, 0.5), dtype=np.float64)


def mcnemar_mid_p(only_first: npt.ArrayLike, only_second: npt.ArrayLike) -> Floats:
    """Two-sided McNemar test with half the weight of what was seen: are both equally often right?

    It is true to its level and not below it, as an interval by inversion needs (Fagerland,
    Lydersen and Laake 2013 on the mid-p test). 1 where the two never differ.
    """
    from scipy import special

    first, second = np.asarray(only_first, np.int64), np.asarray(only_second, np.int64)
    fewer, n = np.minimum(first, second), first + second
    at_most = special.bdtr(fewer, n, 0.5)
    below = np.where(fewer > 0, special.bdtr(np.maximum(fewer - 1, 0), n, 0.5), 0.0)
    return np.asarray(np.minimum(1.0, at_most + below), dtype=np.float64)


def holm_rejected(p_values: npt.ArrayLike, alpha: float = 1 - LEVEL) -> npt.NDArray[np.bool_]:
    """Which of many hypotheses are rejected so that any false one among them has at most alpha.

    Holm's step-down of Bonferroni; it takes nothing of how the tests hang together.
    """
    p = np.asarray(p_values, dtype=np.float64)
    flat = p.ravel()
    order = np.argsort(flat, kind="stable")
    limits = alpha / np.arange(len(flat), 0, -1)
    # From the first that is too large on, none is rejected.
    passed = np.logical_and.accumulate(flat[order] <= limits)
    rejected = np.zeros(len(flat), dtype=np.bool_)
    rejected[order] = passed
    return rejected.reshape(p.shape)


def difference_interval(
    both: int, only_first: int, only_second: int, n: int, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of the difference of two shares on the same questions.

    Newcombe's (1998) method 10: both Wilson intervals, joined with the correlation of the pairs.

    Args:
        both: questions that both ways answer right.
        only_first: those that only the first does.
        only_second: those that only the second does.
        n: all questions.
        level: of confidence.

    Returns:
        Low and high end, within -1 to 1.
    """
    from scipy import special

    z = float(special.ndtri((1 + level) / 2))
    first, second = both + only_first, both + only_second
    neither = n - both - only_first - only_second
    first_low, first_high = wilson_interval(first, n, z)
    second_low, second_high = wilson_interval(second, n, z)
    p1, p2 = first / n, second / n
    product = float(both * neither - only_first * only_second)
    if product > 0:
        product = max(product - n / 2, 0.0)  # Newcombe's correction for continuity.
    spread = first * (n - first) * second * (n - second)
    phi = product / math.sqrt(spread) if spread else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    low = p1 - p2 - reach(p1 - first_low, second_high - p2)
    high = p1 - p2 + reach(first_high - p1, p2 - second_low)
    return max(low, -1.0), min(high, 1.0)


def questions_to_separate(
    only_first: int, only_second: int, n: int, *, alpha: float = 1 - LEVEL, power: float = 0.8
) -> int | None:
    """How many questions a paired test would need, were the differences seen the true ones.

    Args:
        only_first: questions that only the first way answers right.
        only_second: those that only the second does.
        n: questions that were asked.
        alpha: two-sided level of the test.
        power: chance that it sees the difference.

    Returns:
        None where no difference was seen, or more than a million questions are needed
        (Connor 1987's formula for McNemar's test).
    """
    from scipy import special

    apart = (only_first + only_second) / n
    difference = abs(only_first - only_second) / n
    if difference == 0:
        return None
    z_alpha, z_power = special.ndtri(1 - alpha / 2), special.ndtri(power)
    spread = z_alpha * math.sqrt(apart) + z_power * math.sqrt(apart - difference**2)
    needed = math.ceil((spread / difference) ** 2)
    return needed if needed <= MOST_QUESTIONS else None


def paired_counts(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> tuple[Counts, Counts]:
    """Questions that only the first, and that only the second answers right.

    Args:
        first: right or wrong, shape (n, ...).
        second: the same questions under the other way, of the same shape.
    """
    if first.shape != second.shape:
        raise ValueError(f"shapes {first.shape} and {second.shape} are not the same questions")
    return (first & ~second).sum(axis=0), (second & ~first).sum(axis=0)


def bonferroni_level(intervals: int) -> float:
    """The level at which so many intervals hold all at once with 95 %."""
    return 1 - (1 - LEVEL) / max(intervals, 1)
