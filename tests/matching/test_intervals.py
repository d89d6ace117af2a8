"""Intervals and exact tests against scipy, by hand, and by asking what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from edgequant.matching.intervals import (
    bonferroni_level,
    difference_interval,
    holm_rejected,
    mcnemar_ahead_p,
    mcnemar_mid_p,
    paired_counts,
    questions_to_separate,
    wilson_interval,
)

COUNT = st.integers(0, 700)


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    right, n = case
    low, high = wilson_interval(right, n)
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert low == pytest.approx(expected.low, abs=1e-9)
    assert high == pytest.approx(expected.high, abs=1e-9)
    assert 0 <= low <= right / n <= high <= 1


def test_wilson_at_its_edges() -> None:
    # 5 of 10 is symmetric: 0.5 -+ z / (2 sqrt(n + z^2)).
    half = 1.959964 / (2 * (10 + 1.959964**2) ** 0.5)
    assert wilson_interval(5, 10) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert wilson_interval(0, 200)[0] == 0.0
    assert wilson_interval(0, 200)[1] == pytest.approx(0.01885, abs=1e-5)
    assert wilson_interval(200, 200)[1] == 1.0
    assert wilson_interval(1, 1)[1] == 1.0


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(right: int, n: int) -> None:
    with pytest.raises(ValueError):
        wilson_interval(right, n)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.97])
@pytest.mark.parametrize("n", [50, 200, 1319])
def test_wilson_holds_the_true_share_about_as_often_as_it_says(share: float, n: int) -> None:
    """Exactly, by summing over every number of right answers."""
    right = np.arange(n + 1)
    holds = [low <= share <= high for low, high in (wilson_interval(int(k), n) for k in right)]
    assert 0.92 <= binom.pmf(right, n, share)[holds].sum() <= 0.975


@given(COUNT, COUNT)
def test_mcnemar_is_scipys_binomial_test_of_the_differing_questions(a: int, b: int) -> None:
    one_sided = binomtest(a, a + b, alternative="greater").pvalue if a + b else 1.0
    assert mcnemar_ahead_p(a, b) == pytest.approx(one_sided, rel=1e-9, abs=1e-300)
    two_sided = binomtest(a, a + b).pvalue if a + b else 1.0
    seen = binom.pmf(a, a + b, 0.5)
    expected = two_sided - seen if a != b else 1.0
    assert mcnemar_mid_p(a, b) == pytest.approx(expected, rel=1e-7, abs=1e-12)
    assert mcnemar_mid_p(a, b) == mcnemar_mid_p(b, a)


@given(st.lists(st.tuples(COUNT, COUNT), min_size=1, max_size=6))
def test_many_tests_at_once_are_the_single_ones(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    for test in (mcnemar_ahead_p, mcnemar_mid_p):
        assert test(first, second).tolist() == [float(test(a, b)) for a, b in pairs]


@pytest.mark.parametrize("differing", [40, 150, 600])
def test_mid_p_is_true_to_its_level(differing: int) -> None:
    first = np.arange(differing + 1)
    rejected = mcnemar_mid_p(first, differing - first) < 0.05
    assert 0.035 <= binom.pmf(first, differing, 0.5)[rejected].sum() <= 0.056


P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(P_VALUES)
def test_holm_rejects_between_bonferroni_and_each_alone(p_values: list[float]) -> None:
    p = np.array(p_values)
    rejected = holm_rejected(p)
    assert (rejected <= (p <= 0.05)).all()
    assert (rejected >= (p <= 0.05 / len(p))).all()
    if rejected.any() and not rejected.all():
        assert p[rejected].max() <= p[~rejected].min()


@given(P_VALUES, st.randoms(use_true_random=False))
def test_holm_by_its_definition_in_any_order(p_values: list[float], random: object) -> None:
    expected: list[float] = []
    for place, p in enumerate(sorted(p_values)):
        if p > (1 - 0.95) / (len(p_values) - place):
            break
        expected.append(p)
    random.shuffle(p_values)  # type: ignore[attr-defined]
    p = np.array(p_values)
    assert sorted(p[holm_rejected(p)]) == expected
    assert holm_rejected(p.reshape(1, -1, 1)).ravel().tolist() == holm_rejected(p).tolist()


def test_holm_is_wrong_anywhere_in_at_most_five_percent() -> None:
    """Twelve tests that hang together, nine of nothing and three of something."""
    random = np.random.default_rng(3)
    wrong = 0
    for _ in range(4000):
        shared = random.normal()
        z = 0.6 * shared + 0.8 * random.normal(size=12) + np.array([0.0] * 9 + [4.0] * 3)
        p = 1 - np.array([float(x) for x in _normal_cdf(z)])
        wrong += holm_rejected(p)[:9].any()
    assert wrong / 4000 <= 0.05 + 3 * (0.05 * 0.95 / 4000) ** 0.5


def _normal_cdf(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return np.asarray(ndtr(z))


def test_newcombes_published_intervals() -> None:
    # Newcombe 1998, method 10, 50 pairs.
    assert difference_interval(36, 12, 2, 50) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert difference_interval(36, 14, 0, 50) == pytest.approx((0.1528, 0.4167), abs=5e-5)


@given(*[st.integers(0, 60)] * 4)
def test_the_interval_of_a_difference_holds_it_and_turns_with_it(
    both: int, first: int, second: int, neither: int
) -> None:
    n = both + first + second + neither + 1
    low, high = difference_interval(both, first, second, n)
    assert -1 <= low <= (first - second) / n + 1e-12
    assert (first - second) / n - 1e-12 <= high <= 1
    turned = difference_interval(both, second, first, n)
    assert turned == pytest.approx((-high, -low), abs=1e-12)
    wider = difference_interval(both, first, second, n, bonferroni_level(16))
    assert wider[0] <= low
    assert high <= wider[1]


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.1), (0.7, 0.05, 0.05), (0.2, 0.3, 0.3)])
@pytest.mark.parametrize("n", [100, 600])
def test_newcombe_holds_the_true_difference_about_as_often_as_it_says(
    shares: tuple[float, float, float], n: int
) -> None:
    random = np.random.default_rng(5)
    counts = random.multinomial(n, [*shares, 1 - sum(shares)], size=1500)
    true = shares[1] - shares[2]
    held = 0
    for both, first, second, _ in counts:
        low, high = difference_interval(int(both), int(first), int(second), n)
        held += low <= true <= high
    assert 0.93 <= held / 1500 <= 0.98


@pytest.mark.parametrize(("first", "second"), [(0.10, 0.05), (0.2, 0.15), (0.04, 0.01)])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 16])
def test_so_many_questions_do_separate_two(first: float, second: float, alpha: float) -> None:
    """With as many as are named, the test sees the difference about as often as promised."""
    needed = questions_to_separate(
        round(first * 10_000), round(second * 10_000), 10_000, alpha=alpha
    )
    assert needed is not None
    random = np.random.default_rng(7)
    a, b, _ = random.multinomial(needed, [first, second, 1 - first - second], size=6000).T
    assert 0.77 <= ((mcnemar_mid_p(a, b) < alpha) & (a > b)).mean() <= 0.84
    # Half of them do not.
    a, b, _ = random.multinomial(needed // 2, [first, second, 1 - first - second], size=2000).T
    assert (mcnemar_mid_p(a, b) < alpha).mean() < 0.6


def test_what_no_questions_separate() -> None:
    assert questions_to_separate(5, 5, 100) is None
    assert questions_to_separate(0, 0, 100) is None
    assert questions_to_separate(50_001, 50_000, 100_000) is None
    # The first is always right, the second never: it takes a handful.
    assert questions_to_separate(9, 0, 9) == 4
    assert questions_to_separate(3, 9, 100) == questions_to_separate(9, 3, 100)


def test_pairs_are_counted_where_they_differ() -> None:
    first = np.array([[True, False], [True, True], [False, False]])
    second = np.array([[True, True], [False, False], [False, True]])
    only_first, only_second = paired_counts(first, second)
    assert (only_first.tolist(), only_second.tolist()) == ([1, 1], [0, 2])
    with pytest.raises(ValueError, match="same questions"):
        paired_counts(first, second[:2])
