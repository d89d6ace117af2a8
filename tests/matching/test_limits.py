"""Time limits stand where the curves change, whoever is ahead there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.join_statistics import curve
from edgequant.matching.crossover import Floats
from edgequant.matching.limits import LIMITS, round_up, time_limits

TIMES = st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=300)


@settings(deadline=None)
@given(TIMES, st.floats(0, 1e5))
def test_no_two_limits_have_much_between_them(times: list[float], prompt: float) -> None:
    """Also where every answer waits long for its prompt, so that all times begin alike."""
    when = np.sort(np.array(times) + prompt)
    limits = time_limits([curve("A", "p", when)])
    assert limits == sorted(set(limits))
    assert limits[-1] >= when[-1]
    within = np.searchsorted(when, limits, side="right")
    for low, high in zip([0, *within], within, strict=False):
        inside = when[low:high]
        # What ties at one instant no limit can part.
        apart = len(inside) - (inside == inside[-1]).sum() if len(inside) else 0
        assert apart <= len(when) * (1 / LIMITS + 1 / 64) + 1


def test_a_large_lead_between_two_instants_has_a_row_inside() -> None:
    quick, slow = (0.33 + np.arange(80) * 1e-4), (0.43 + np.arange(80) * 1e-4)
    limits = time_limits([curve("A", "p", quick), curve("B", "p", slow)])
    assert any(0.338 <= limit < 0.43 for limit in limits)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_limits_do_not_know_who_is_ahead(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = random.lognormal(size=(2, n))
    swap = random.uniform(size=n) < 0.5
    a: Floats = np.where(swap, second, first)
    b: Floats = np.where(swap, first, second)
    before = time_limits([curve("A", "p", first), curve("B", "p", second)])
    assert time_limits([curve("A", "p", a), curve("B", "p", b)]) == before


@pytest.mark.parametrize(
    ("seconds", "rounded"),
    [(0.0, 0.0), (0.1, 0.1), (0.3, 0.3), (1.01, 1.1), (99.1, 100.0), (1.234e12, 1.3e12),
     (3 * 0.1, 0.31)],
)  # fmt: skip
def test_rounding_up_keeps_what_is_within(seconds: float, rounded: float) -> None:
    assert round_up(seconds) == rounded


@given(st.floats(0, 1e300), st.integers(2, 17))
def test_rounding_up_never_rounds_down(seconds: float, digits: int) -> None:
    assert seconds <= round_up(seconds, digits) <= seconds * 1.1 + 1e-300
