"""Curves: measured points inside, a fitted trend outside, never falling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.latency.curve import POOLED, Curve, Trend, curve_through, fit_trend

positive = st.floats(1e-4, 1e3)
places = st.lists(st.integers(0, 600), min_size=1, max_size=40, unique=True).map(sorted)


@settings(deadline=None)
@given(st.floats(0, 10), st.floats(0, 1), st.floats(0, 0.01))
def test_a_trend_is_found_again(fixed: float, linear: float, quadratic: float) -> None:
    trend = Trend(fixed + 0.1, linear, quadratic)
    x = np.array([8.0, 32.0, 96.0, 256.0, 700.0])
    found = fit_trend(x, trend.at(x), 2)
    assert found.at(x).tolist() == pytest.approx(trend.at(x).tolist(), rel=1e-6)


@settings(deadline=None)
@given(st.lists(positive, min_size=3, max_size=12))
def test_a_fit_has_no_negative_coefficient(values: list[float]) -> None:
    found = fit_trend(np.arange(len(values), dtype=np.float64), values, 2)
    assert min(found.fixed, found.linear, found.quadratic) >= 0


def test_what_falls_is_fitted_as_level_and_nothing_as_nothing() -> None:
    assert fit_trend([1, 2, 3], [3.0, 2.0, 1.0], 1).linear == 0
    assert fit_trend([5], [2.0], 2).fixed == pytest.approx(2.0)
    assert fit_trend([1, 2], [0.0, 0.0], 1) == Trend(0.0)


@settings(deadline=None)
@given(st.data(), places)
def test_a_curve_never_falls_and_meets_its_trend_without_a_jump(
    data: st.DataObject, tokens: list[int]
) -> None:
    values = data.draw(st.lists(positive, min_size=len(tokens), max_size=len(tokens)))
    curve = curve_through(fit_trend(tokens, values, 1), tokens, values)
    x = np.linspace(0, 1000, 500)
    assert np.all(np.diff(curve.at(x)) >= -1e-9)
    for end in (tokens[0], tokens[-1]):
        here = float(curve.at(end))
        for beside in (end - 1e-9, end + 1e-9):
            assert float(curve.at(max(beside, 0))) == pytest.approx(here, rel=1e-5, abs=1e-5)
    sums = curve.sum_below(x)
    assert sums[0] == 0
    assert np.all(np.diff(sums) >= -1e-9)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.floats(0, 0.5))
def test_rising_points_stand_as_they_are(start: int, count: int, step: float) -> None:
    tokens = [*range(start, start + count)]
    values = [1 + step * number for number in range(count)]
    curve = curve_through(fit_trend(tokens, values, 1), tokens, values)
    between = slice(POOLED, max(count - POOLED, POOLED))
    found = curve.at(np.array(tokens, dtype=np.float64))
    assert found[between].tolist() == pytest.approx(values[between])


@settings(deadline=None)
@given(st.lists(positive, min_size=1, max_size=60))
def test_noise_is_averaged_and_not_added(values: list[float]) -> None:
    tokens = [*range(20, 20 + len(values))]
    curve = curve_through(Trend(1.0), tokens, values)
    found = curve.sum_below(np.array([20.0, 20.0 + len(values)]))
    assert found[1] - found[0] == pytest.approx(sum(values))


@settings(deadline=None)
@given(st.floats(0, 2000), st.floats(0.1, 5), st.floats(0, 0.1), st.floats(0, 1e-3))
def test_sums_behind_the_last_point_are_those_of_the_steps(
    tokens: float, fixed: float, linear: float, quadratic: float
) -> None:
    curve = Curve(Trend(fixed, linear, quadratic), (10.0, 20.5), (1.0, 30.0))
    whole = int(tokens)
    expected = sum(float(curve.at(n)) for n in range(whole))
    expected += (tokens - whole) * float(curve.at(whole))
    assert float(curve.sum_below(tokens)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("tokens", "values"),
    [((1.0,), ()), ((2.0, 1.0), (1.0, 2.0)), ((1.0, 2.0), (2.0, 1.0)), ((1.0,), (float("nan"),))],
)
def test_points_that_do_not_rise_are_refused(
    tokens: tuple[float, ...], values: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"curve|places"):
        Curve(Trend(1.0), tokens, values)
    with pytest.raises(ValueError, match="linear"):
        Trend(1.0, -1.0)
