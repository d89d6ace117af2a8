"""Claims of the join against what is true, in simulated answers. Seeds are of the answers alone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.join_statistics import CROSSING, coverage, false_leads, flattery

RUNS = 90


def test_intervals_of_crossovers_hold_the_true_one_as_often_as_they_say() -> None:
    random = np.random.default_rng(1)
    claimed = covered = 0
    for pair in CROSSING.values():
        for n in (600, 1319):
            found = coverage(pair, n, RUNS, random)
            claimed, covered = claimed + found[0], covered + found[1]
    assert claimed > 600
    assert 0.93 <= covered / claimed <= 0.97


@pytest.mark.parametrize("quantizations", [2, 4])
def test_equal_quantizations_are_seldom_told_apart(quantizations: int) -> None:
    runs = 200
    worse, crossed = false_leads(quantizations, 2, 200, runs, np.random.default_rng(2))
    # 5 % and two standard deviations of so many runs.
    allowed = runs * 0.05 + 2 * (runs * 0.05 * 0.95) ** 0.5
    assert worse <= allowed
    assert crossed <= allowed


def test_the_best_of_eight_is_not_praised_for_having_been_chosen() -> None:
    runs, n = 300, 200
    noise = 100 * (0.8 * 0.2 / (n * runs)) ** 0.5
    assert abs(flattery(8, n, runs, np.random.default_rng(3))) <= 3 * noise
