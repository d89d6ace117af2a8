"""Crossovers with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from edgequant.matching.crossover import Curve, compare, within_time
from edgequant.matching.intervals import resampling_weights

N = 300
WEIGHTS = resampling_weights(N, 1000, seed=7)


def curve(seconds: list[float], shares: list[float], shift: int = 0) -> Curve:
    """Points with so many of N questions right; ``shift`` moves which ones."""
    index = (np.arange(N) + shift) % N
    correct = np.stack([index < round(s * N) for s in shares], axis=1)
    return Curve(
        np.array(seconds), correct.mean(axis=0), WEIGHTS @ correct.astype(np.float32)
    )  # fmt: skip


def test_within_a_time_only_quick_points_count() -> None:
    some = curve([4.0, 1.0, 2.0], [0.3, 0.2, 0.5])
    best, resampled = within_time(some, np.array([0.5, 1.0, 1.9, 2.0, 100.0]))
    assert best == pytest.approx([0.0, 0.2, 0.2, 0.5, 0.5])
    assert resampled.shape == (1000, 5)
    assert np.all(resampled[:, 0] == 0)
    assert np.all(np.diff(resampled, axis=1) >= 0)


def test_one_change_of_lead_is_found_where_it_is() -> None:
    # The quick one is ahead from 1 s, the slow one overtakes at 8 s.
    quick = curve([1, 2, 4, 16], [0.2, 0.4, 0.5, 0.5])
    slow = curve([3, 6, 8, 12], [0.1, 0.3, 0.7, 0.9], shift=50)
    found = compare(quick, slow, N)
    assert found.sign_changes == 1
    (crossover,) = found.crossovers
    assert crossover.first_leads
    assert crossover.seconds == 8
    assert crossover.seconds_low <= 8 <= crossover.seconds_high
    assert crossover.lead_before == pytest.approx(0.4, abs=0.01)
    assert crossover.lead_after == pytest.approx(0.4, abs=0.01)
    assert found.surely_ahead is None


def test_the_order_of_the_two_does_not_matter() -> None:
    quick = curve([1, 2, 4], [0.2, 0.4, 0.5])
    slow = curve([3, 6, 8], [0.1, 0.3, 0.9], shift=90)
    one, other = compare(quick, slow, N).crossovers[0], compare(slow, quick, N).crossovers[0]
    assert one.seconds == other.seconds
    assert one.first_leads
    assert not other.first_leads


def test_two_changes_of_lead() -> None:
    first = curve([1, 10, 100], [0.3, 0.5, 0.9])
    second = curve([5, 10.1], [0.7, 0.7], shift=40)
    found = compare(first, second, N)
    assert [c.seconds for c in found.crossovers] == [5, 100]
    assert [c.first_leads for c in found.crossovers] == [True, False]


def test_a_lead_all_along_is_no_crossover() -> None:
    found = compare(curve([1, 2, 3], [0.3, 0.6, 0.9]), curve([1, 2, 3], [0.1, 0.3, 0.5]), N)
    assert found.crossovers == ()
    assert found.sign_changes == 0
    assert found.surely_ahead == "first"


def test_equal_curves_never_cross() -> None:
    some = curve([1, 2, 3], [0.3, 0.6, 0.9])
    found = compare(some, some, N)
    assert (found.crossovers, found.sign_changes, found.surely_ahead) == ((), 0, None)


def test_curves_that_cross_by_chance_only_are_counted_not_believed() -> None:
    first = curve([1, 2, 4, 8, 16], [0.50, 0.51, 0.53, 0.54, 0.56])
    second = curve([1, 2, 4, 8, 16], [0.49, 0.52, 0.52, 0.55, 0.55], shift=100)
    found = compare(first, second, N)
    assert found.crossovers == ()
    assert found.sign_changes == 4


def test_a_tie_in_between_ends_where_the_second_gets_ahead() -> None:
    first = curve([1.0], [0.5])
    second = curve([4, 9], [0.5, 0.9])
    (crossover,) = compare(first, second, N).crossovers
    assert crossover.seconds == 9


def test_chance_flips_around_the_crossing_do_not_move_it_far() -> None:
    times = list(np.geomspace(1, 100, 60))
    truth = np.linspace(0.3, -0.3, 60)
    noise = 0.04 * np.sin(np.arange(60) * 2.1)
    base = 0.5 + 0.002 * np.arange(60)
    first = curve(times, list(np.maximum.accumulate(base + truth / 2 + 0.3)))
    second = curve(times, list(np.maximum.accumulate(base - truth / 2 + noise)), shift=30)
    found = compare(first, second, N)
    assert len(found.crossovers) <= 1


def test_a_lead_shorter_than_the_steps_between_budgets_does_not_count() -> None:
    first = curve([1.0, 10.0], [0.2, 0.8])
    second = curve([9.8, 30.0], [0.7, 0.75])
    # From 9.8 to 10 s the second is far ahead, but only because 9.9 s was not tried.
    assert compare(first, second, N).crossovers == ()


def test_a_choice_that_takes_no_time_is_no_trouble() -> None:
    first = curve([0.0, 1.0], [0.1, 0.4])
    second = curve([0.0, 5.0], [0.0, 0.9], shift=20)
    (crossover,) = compare(first, second, N).crossovers
    assert crossover.seconds == 5


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Answers are drawn again and again around a known crossing at 10 s."""
    random = np.random.default_rng(5)
    seconds = np.geomspace(1, 100, 40)
    place = (np.log10(seconds) / 2)[None, :]
    chance_first = np.broadcast_to(0.2 + 0.3 * place, (N, 40))
    chance_second = 0.05 + 0.6 * place
    hits = trials = 0
    for _ in range(60):
        ease = random.uniform(size=(N, 1))
        curves = []
        for chance in (chance_first, chance_second):
            correct = 0.6 * ease + 0.4 * random.uniform(size=(N, 1)) < chance
            curves.append(
                Curve(seconds, correct.mean(axis=0), WEIGHTS @ correct.astype(np.float32))
            )
        for crossover in compare(curves[0], curves[1], N).crossovers:
            trials += 1
            # One grid step of slack at each side: times are steps.
            hits += crossover.seconds_low / 1.13 <= 10 <= crossover.seconds_high * 1.13
    assert trials >= 30
    assert hits / trials >= 0.85


def of_questions(seconds: list[float], right: list[set[int]], n: int) -> Curve:
    """Points with these questions right, of n."""
    correct = np.array([[q in some for some in right] for q in range(n)])
    weights = resampling_weights(n, 1000, seed=3)
    return Curve(np.array(seconds), correct.mean(axis=0), weights @ correct.astype(np.float32))


def test_one_crossing_without_chance_has_an_interval_of_no_width() -> None:
    first = of_questions([2.0], [set(range(60))], 100)
    second = of_questions([10.0], [set(range(90))], 100)
    (crossover,) = compare(first, second, 100).crossovers
    assert (crossover.seconds_low, crossover.seconds, crossover.seconds_high) == (10, 10, 10)
    assert crossover.lead_before == pytest.approx(0.6)
    assert crossover.lead_after == pytest.approx(0.3)


def test_curves_that_touch_do_not_cross() -> None:
    # The second catches up at 4 s, for good or until the first leads again.
    first = curve([1, 2, 16], [0.3, 0.5, 0.9])
    for second in (curve([1, 4], [0.1, 0.5]), curve([1, 4, 32], [0.1, 0.5, 0.9], shift=70)):
        found = compare(first, second, N)
        assert (found.crossovers, found.sign_changes) == ((), 0)
        assert found.surely_ahead == "first"


def test_a_point_that_is_no_better_than_a_quicker_one_changes_nothing() -> None:
    first = curve([1, 2, 4], [0.2, 0.4, 0.5])
    second = curve([3, 6, 8], [0.1, 0.3, 0.9], shift=90)
    worse = curve([1, 2, 3, 4, 5, 7], [0.2, 0.4, 0.1, 0.5, 0.0, 0.2])
    (one,), (other,) = compare(first, second, N).crossovers, compare(worse, second, N).crossovers
    assert (one.seconds, one.lead_before, one.lead_after) == (
        other.seconds,
        other.lead_before,
        other.lead_after,
    )


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_handful_of_questions_proves_no_lead(n: int) -> None:
    """All for the one and none for the other: the bootstrap alone sees no spread at all."""
    everything, nothing = of_questions([1.0], [set(range(n))], n), of_questions([1.0], [set()], n)
    assert compare(everything, nothing, n).surely_ahead is None


def test_three_questions_ahead_and_three_behind_are_counted_not_believed() -> None:
    first = of_questions([1.0], [set(range(3))], 6)
    second = of_questions([5.0], [set(range(6))], 6)
    found = compare(first, second, 6)
    assert found.crossovers == ()
    assert found.sign_changes == 1


@pytest.mark.parametrize("n", [20, 200])
def test_noise_is_seldom_believed(n: int) -> None:
    """Both answer by the same chances, so each crossover is one by chance."""
    random = np.random.default_rng(11)
    seconds = np.geomspace(1, 100, 25)
    weights = resampling_weights(n, 500, seed=3)
    chance = np.linspace(0.2, 0.7, 25)
    crossings = leads = changes = 0
    for _ in range(100):
        ease = random.uniform(size=(n, 1))
        curves = []
        for _ in range(2):
            correct = 0.5 * ease + 0.5 * random.uniform(size=(n, 1)) < chance
            curves.append(
                Curve(seconds, correct.mean(axis=0), weights @ correct.astype(np.float32))
            )
        found = compare(curves[0], curves[1], n)
        crossings += len(found.crossovers)
        leads += found.surely_ahead is not None
        changes += found.sign_changes
    assert changes > 50  # the curves do cross, by chance
    assert crossings == 0
    assert leads <= 15  # 5 % are wanted


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_time_does_not_matter(factor: float) -> None:
    first = curve([1, 2, 4], [0.2, 0.4, 0.5])
    second = curve([3, 6, 8], [0.1, 0.3, 0.9], shift=90)
    (one,) = compare(first, second, N).crossovers
    first, second = (Curve(c.seconds * factor, c.accuracy, c.resampled) for c in (first, second))
    (other,) = compare(first, second, N).crossovers
    assert other.seconds == pytest.approx(one.seconds * factor)
    assert other.seconds_low == pytest.approx(one.seconds_low * factor)
    assert other.seconds_high == pytest.approx(one.seconds_high * factor)
