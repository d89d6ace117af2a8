"""Crossovers with known answers, and the fast search against the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.join_statistics import curve
from edgequant.matching.choosing import PARTS, best_of, choose, deal, quickest_first, right_of
from edgequant.matching.crossover import changes_of_owner, event_times, find_crossover, paired_at
from edgequant.matching.curves import Curve
from edgequant.matching.cuts import Changes
from edgequant.matching.intervals import paired_counts


def drawn(n: int, seed: int, turns: int = 4) -> Changes:
    """Answers that turn right and wrong by turns, at few times: many ties."""
    random = np.random.default_rng(seed)
    rows = [
        (q, t, 1 - 2 * (place % 2))
        for q in range(n)
        for place, t in enumerate(
            np.sort(random.choice(12, size=random.integers(0, turns + 1), replace=False))
        )
    ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    changes = Changes(columns[:, 0], columns[:, 1] / 2.0, columns[:, 2])
    return changes.at(changes.when)


def of(changes: Changes, n: int, name: str = "p") -> Curve:
    plain = curve("A", name, np.ones(n))
    return Curve(plain.group, plain.pace, "seconds", changes, plain.whole_seconds)


SEED = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(st.integers(1, 12), SEED, SEED)
def test_pairs_at_all_times_are_those_at_each(n: int, one: int, two: int) -> None:
    first, second = drawn(n, one), drawn(n, two)
    times = np.arange(-1, 8) * 0.75
    expected = paired_counts(first.right_at(times, n), second.right_at(times, n))
    assert [c.tolist() for c in paired_at(first, second, times)] == [c.tolist() for c in expected]


@settings(deadline=None)
@given(st.integers(1, 25), st.lists(SEED, min_size=1, max_size=5))
def test_the_best_at_all_times_is_the_best_chosen_at_each(n: int, seeds: list[int]) -> None:
    curves = [of(drawn(n, seed), n, f"p{place}") for place, seed in enumerate(seeds)]
    parts = deal(curves[0].group.question_ids)
    times = np.arange(0, 14) * 0.5
    expected = choose(right_of(curves, times), parts).right
    best = best_of(curves, parts)
    assert best.right_at(times, n).tolist() == expected.tolist()
    zero = curve("B", "p", np.full(n, 1.0)).changes
    only_best, _ = paired_at(best, zero, times)
    assert only_best.tolist() == (expected & (times < 1)).sum(axis=0).tolist()


def test_parts_are_even_and_do_not_follow_the_order() -> None:
    names = [f"{n:04d}" for n in range(203)]
    parts = deal(names)
    assert sorted(np.bincount(parts, minlength=PARTS)) == [40, 40, 41, 41, 41]
    order = np.random.default_rng(1).permutation(203)
    assert deal([names[n] for n in order]).tolist() == parts[order].tolist()


def test_of_equal_ones_the_quickest_is_chosen() -> None:
    slow, quick = curve("A", "slow", np.full(9, 2.0)), curve("A", "quick", np.full(9, 1.0))
    curves = quickest_first([slow, quick])
    assert [c.group.prompt for c in curves] == ["quick", "slow"]
    chosen = choose(right_of(curves, np.array([0.5, 1.5, 3.0])), deal(slow.group.question_ids))
    assert chosen.choice.tolist() == [0, 0, 0]
    assert chosen.right_seen.tolist() == [0, 9, 9]


def test_one_step_at_which_everything_happens_has_an_interval_of_that_step() -> None:
    first = curve("A", "p", np.where(np.arange(100) < 60, 2.0, np.inf)).changes
    second = curve("B", "p", np.where(np.arange(100) < 90, 10.0, np.inf)).changes
    found = find_crossover(first, second, (2.0, 10.0))
    # Between 2 and 10 s nothing changes: the crossing is at 10 s, or anywhere after 2 s.
    assert (found.seconds_low, found.seconds, found.seconds_high) == (2.0, 10.0, 10.0)


def test_a_tie_in_between_ends_where_the_second_gets_ahead() -> None:
    first = curve("A", "p", np.where(np.arange(100) < 50, 1.0, np.inf)).changes
    second = curve("B", "p", np.repeat([4.0, 9.0, np.inf], [50, 40, 10])).changes
    found = find_crossover(first, second, (1.0, 9.0))
    assert (found.seconds_low, found.seconds, found.seconds_high) == (4.0, 9.0, 9.0)


def test_ends_at_which_neither_leads_are_no_trouble() -> None:
    never = curve("A", "p", np.array([np.inf, 1.0])).changes
    found = find_crossover(never, never, (0.0, 2.0))
    assert found.seconds_low <= found.seconds <= found.seconds_high


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_time_does_not_matter(factor: float) -> None:
    random = np.random.default_rng(2)
    first, second = (
        curve(
            "A",
            "p",
            np.where(random.uniform(size=300) < share, t * random.lognormal(size=300), np.inf),
        )
        for share, t in ((0.6, 1.0), (0.9, 3.0))
    )
    one = find_crossover(first.changes, second.changes, (0.5, 9.0))
    scaled = (c.changes.at(c.changes.when * factor) for c in (first, second))
    other = find_crossover(*scaled, (0.5 * factor, 9.0 * factor))
    assert other.seconds == pytest.approx(one.seconds * factor)
    assert other.seconds_low == pytest.approx(one.seconds_low * factor)
    assert other.seconds_high == pytest.approx(one.seconds_high * factor)


def test_owners_change_only_between_sure_leads() -> None:
    lead = np.array([0, 1, 0, 1, 0, 0, -1, -1, 0, 1])
    assert changes_of_owner(lead) == [(3, 6), (7, 9)]
    assert changes_of_owner(np.zeros(4, dtype=np.int64)) == []
    assert event_times(drawn(0, 1)).tolist() == []
