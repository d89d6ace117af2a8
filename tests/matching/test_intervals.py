"""Intervals against scipy and against answers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from edgequant.matching.intervals import (
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


@pytest.mark.parametrize("n", [1, 2, 5, 20, 200, 1319])
def test_wilson_is_scipys_at_and_near_the_edges(n: int) -> None:
    for right in sorted({0, 1, n // 2, n - 1, n}):
        expected = binomtest(right, n).proportion_ci(method="wilson")
        assert wilson_interval(right, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_mcnemar_is_the_binomial_test_of_any_answers(pairs: list[tuple[bool, bool]]) -> None:
    first, second = np.array(pairs).T
    only_first, differing = int((first & ~second).sum()), int((first != second).sum())
    expected = binomtest(only_first, differing).pvalue if differing else 1.0
    assert mcnemar_p(first, second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_does_not_underflow_with_many_questions() -> None:
    first = np.arange(5000) < 2600
    expected = binomtest(2600, 5000).pvalue
    assert mcnemar_p(first, ~first) == pytest.approx(expected, rel=1e-6)
    assert 0 <= mcnemar_p(np.ones(5000, bool), np.zeros(5000, bool)) < 1e-300


def test_resampling_depends_on_its_seed_alone() -> None:
    one, same, other = (resampling_weights(50, 20, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.shape == (20, 50)
    # Whole questions, drawn with replacement.
    assert one * 50 == pytest.approx(np.round(one * 50), abs=1e-4)


# The sum of two uniform halves is triangular: P(X < 0.65) = 1 - 2 * 0.35**2; P(X < 0.5) = 0.5.
TRUE_DIFFERENCE = 1 - 2 * 0.35**2 - 0.5


def test_the_bootstrap_interval_of_a_paired_difference_covers_about_95_percent() -> None:
    """Two ways that share what makes a question easy: the true difference is known."""
    random = np.random.default_rng(20)
    weights = resampling_weights(150, 600, seed=4)
    hits = 0
    for _ in range(300):
        ease = random.uniform(size=150)
        first = 0.5 * ease + 0.5 * random.uniform(size=150) < 0.65
        second = 0.5 * ease + 0.5 * random.uniform(size=150) < 0.5
        resampled = weights @ (first.astype(np.float32) - second.astype(np.float32))
        low, high = percentile_interval(resampled)
        hits += low <= TRUE_DIFFERENCE <= high
    assert 0.91 <= hits / 300 <= 0.98
