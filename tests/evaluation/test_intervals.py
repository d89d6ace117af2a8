"""Intervals against scipy and against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgequant.evaluation.intervals import (
    mcnemar_p,
    percentile_interval,
    resampling_weights,
    wilson_interval,
)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    right, n = case
    low, high = wilson_interval(right, n)
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)
    assert 0 <= low <= right / n <= high <= 1


def test_wilson_by_hand() -> None:
    # 5 of 10 is symmetric: 0.5 -+ z / (2 sqrt(n + z^2)).
    low, high = wilson_interval(5, 10)
    half = 1.959964 / (2 * (10 + 1.959964**2) ** 0.5)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)


def test_wilson_at_its_edges() -> None:
    assert wilson_interval(0, 200)[0] == 0.0
    assert wilson_interval(0, 200)[1] == pytest.approx(0.01885, abs=1e-5)
    assert wilson_interval(200, 200)[1] == 1.0
    assert wilson_interval(1, 1)[1] == 1.0


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(right: int, n: int) -> None:
    with pytest.raises(ValueError):
        wilson_interval(right, n)


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (10, 2), (700, 500)])
def test_mcnemar_is_the_binomial_test_of_the_differing_questions(
    only_first: int, only_second: int
) -> None:
    both, neither = 40, 30
    first = np.array([True] * (only_first + both) + [False] * (only_second + neither))
    second = np.array(
        [False] * only_first + [True] * (both + only_second) + [False] * neither,
    )
    differing = only_first + only_second
    expected = binomtest(only_first, differing).pvalue if differing else 1.0
    assert mcnemar_p(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p(second, first) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_refuses_other_questions() -> None:
    with pytest.raises(ValueError, match="same questions"):
        mcnemar_p(np.array([True]), np.array([True, False]))


def test_resampled_accuracies_spread_as_the_binomial_does() -> None:
    weights = resampling_weights(400, 4000, seed=1)
    assert weights.sum(axis=1) == pytest.approx(np.ones(4000), abs=1e-5)
    correct = np.arange(400) < 100
    accuracies = weights @ correct.astype(np.float32)
    assert accuracies.mean() == pytest.approx(0.25, abs=0.002)
    assert accuracies.std() == pytest.approx((0.25 * 0.75 / 400) ** 0.5, rel=0.05)
    assert np.array_equal(weights, resampling_weights(400, 4000, seed=1))


def test_percentile_interval() -> None:
    assert percentile_interval(list(range(101))) == pytest.approx((2.5, 97.5))
