"""A non-decreasing function through measured points, and a fitted trend outside of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Amount = float | Floats
"""A number, or an array of numbers."""

MOST_STEPS = 1 << 20
"""The furthest point whose steps are summed one by one: further than any model's context."""
POOLED = 8
"""Points at either end that follow the trend, with their own mean: the largest of many is otherwise
taken for the last one's value, and what lies outside starts from there."""


@dataclass(frozen=True)
class Trend:
    """``fixed + linear * x + quadratic * x**2``, without a negative coefficient."""

    fixed: float
    linear: float = 0.0
    quadratic: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} is {value}")

    def at(self, x: Amount) -> Floats:
        """Its value, of the shape of ``x``."""
        x = np.asarray(x, dtype=np.float64)
        return np.asarray(self.fixed + x * (self.linear + x * self.quadratic))

    def scaled(self, factor: float) -> Trend:
        """The same in another unit."""
        return Trend(self.fixed * factor, self.linear * factor, self.quadratic * factor)


@dataclass(frozen=True)
class Curve:
    """A function of a number of tokens that never falls.

    Between its points it is linear. Outside it is the trend, stretched so that it meets the first
    or the last point; a curve without points is its trend.
    """

    trend: Trend
    tokens: tuple[float, ...] = ()
    """Where it was measured, rising."""
    values: tuple[float, ...] = ()
    """What was measured there, not falling."""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.values):
            raise ValueError(f"{len(self.values)} values at {len(self.tokens)} places")
        rising = all(np.diff(self.tokens) > 0) and all(np.diff(self.values) >= 0)
        if not rising or not np.all(np.isfinite([*self.tokens, *self.values])):
            raise ValueError("the points of a curve must rise")
        if self.tokens and min(self.tokens[0], self.values[0]) < 0:
            raise ValueError("a curve has no negative points")

    def at(self, tokens: Amount) -> Floats:
        """Its value, of the shape of ``tokens``."""
        x = np.asarray(tokens, dtype=np.float64)
        if not self.tokens:
            return self.trend.at(x)
        inside = np.interp(x, self.tokens, self.values)
        below, above = x < self.tokens[0], x > self.tokens[-1]
        outside = self.trend.at(x) * np.where(below, self._stretch(0), self._stretch(-1))
        return np.where(below | above, outside, inside)

    def sum_below(self, tokens: Amount) -> Floats:
        """The sum of the values at 0, 1, ... below ``tokens``; a part of a step counts in part."""
        x = np.asarray(tokens, dtype=np.float64)
        whole = np.floor(x)
        known = self._sums
        last = len(known) - 1
        sums = known[np.clip(whole, 0, last).astype(np.int64)]
        beyond, part = whole > last, x - whole
        if np.any(beyond):
            sums = sums + np.where(beyond, self._outside(whole) - self._outside(last), 0.0)
        if np.any(part):
            sums = sums + part * self.at(whole)
        return np.asarray(sums)

    @cached_property
    def _sums(self) -> Floats:
        """Sums below 0, 1, ... up to the first number after the last point."""
        count = math.floor(self.tokens[-1]) + 1 if self.tokens else 0
        return np.concatenate([[0.0], np.cumsum(self.at(np.arange(count, dtype=np.float64)))])

    def _outside(self, whole: Amount) -> Floats:
        """The trend's sum below a whole number, as it goes on behind the last point."""
        n = np.asarray(whole, dtype=np.float64)
        squares = (n - 1) * n * (2 * n - 1) / 6
        trend = self.trend
        total = trend.fixed * n + trend.linear * n * (n - 1) / 2 + trend.quadratic * squares
        return np.asarray(total * (self._stretch(-1) if self.tokens else 1.0))

    def _stretch(self, end: int) -> float:
        expected = float(self.trend.at(self.tokens[end]))
        return self.values[end] / expected if expected > 0 else 1.0


def fit_trend(
    tokens: Sequence[float] | Floats, values: Sequence[float] | Floats, degree: int
) -> Trend:
    """The trend with the least relative squares, its coefficients bounded below by 0.

    Relative, since what is wanted of it is an error in percent: an absolute fit would follow the
    longest prompt alone.

    Args:
        tokens: where values were measured.
        values: one for each; what took no time on the board's clock has no relative error, and is
            left out.
        degree: 0, 1 or 2; less where there are fewer different places.
    """
    from scipy.optimize import nnls

    x, y = np.asarray(tokens, dtype=np.float64), np.asarray(values, dtype=np.float64)
    x, y = x[y > 0], y[y > 0]
    if not len(x):
        return Trend(0.0)
    degree = min(degree, len(np.unique(x)) - 1)
    # Powers of x over its largest: all columns are then of about one size.
    unit = max(float(np.max(x)), 1.0)
    powers = np.stack([(x / unit) ** power for power in range(degree + 1)], axis=1)
    found, _ = nnls(powers / y[:, None], np.ones(len(y)))
    return Trend(*(float(value) / unit**power for power, value in enumerate(found)))


def curve_through(trend: Trend, tokens: Sequence[float], values: Sequence[float]) -> Curve:
    """A curve through points as near as one that never falls can be, in the least squares sense.

    What is summed over a stretch of it is what was measured there: noise is averaged, not capped.

    Args:
        trend: what it follows outside the points.
        tokens: places, rising.
        values: one for each.
    """
    from scipy.optimize import isotonic_regression

    places, smooth = np.asarray(tokens, dtype=np.float64), np.array(values, dtype=np.float64)
    if not len(places):
        return Curve(trend)
    for end in _ends(places):
        shape = trend.at(places[end])
        if np.mean(shape) > 0:
            smooth[end] = shape * np.mean(smooth[end]) / np.mean(shape)
    rising = np.maximum.accumulate(isotonic_regression(smooth).x)  # Means differ in the last bit.
    return Curve(trend, tuple(map(float, places)), tuple(map(float, rising)))


def _ends(places: Floats) -> tuple[slice, slice]:
    """The first few places that follow one another without a gap, and the last few."""
    gaps = np.flatnonzero(np.diff(places) != 1)
    first, last = (gaps[0] + 1, gaps[-1] + 1) if len(gaps) else (len(places), 0)
    return slice(0, min(POOLED, first)), slice(max(len(places) - POOLED, last), None)
