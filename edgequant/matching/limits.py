"""The time limits at which configurations are compared: put where the curves change.

They are taken from all changes of all configurations together, whichever they belong to. So they
know nothing of who is ahead, and a test at such a time is as exact as at one fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, Context

import numpy as np

from edgequant.matching.curves import Curve, Floats

LIMITS = 16
"""More rows find more changes of lead and need a larger lead each: at 16 a lead must be of 3.0
standard errors where one look alone would take 2.0."""
DIGITS = range(2, 18)
PASSED_OVER = 1 / 64
"""Rounding a limit up may let so large a part of all changes slip by; else it gets more digits."""


def time_limits(curves: Sequence[Curve], count: int = LIMITS) -> list[float]:
    """Times between which equally many answers turn right or wrong, the last one after all.

    Args:
        curves: of one latency source.
        count: how many at most; fewer where they round to the same.

    Returns:
        Rising seconds, rounded up to two digits, or to as many as keep the changes apart; those
        of the longest answer where none changes.
    """
    when = np.sort(np.concatenate([curve.changes.when for curve in curves]))
    if not len(when):
        return [round_up(max(float(curve.whole_seconds.max()) for curve in curves))]
    return sorted({_rounded_among(when, float(t)) for t in spread_evenly(when, count)})


def spread_evenly(ordered: Floats, count: int) -> Floats:
    """At most ``count`` of some rising times, equally many between each two, and the last."""
    places = np.ceil(np.arange(1, count + 1) * len(ordered) / count).astype(np.int64) - 1
    return np.unique(ordered[places])


def round_up(seconds: float, digits: int = DIGITS[0]) -> float:
    """The next number of so many digits that is no smaller; 0 stays."""
    return float(Context(prec=digits, rounding=ROUND_CEILING).create_decimal(repr(float(seconds))))


def _rounded_among(ordered: Floats, seconds: float) -> float:
    allowed = np.searchsorted(ordered, seconds, side="right") + len(ordered) * PASSED_OVER
    rounded = (round_up(seconds, digits) for digits in DIGITS)
    fitting = (t for t in rounded if np.searchsorted(ordered, t, side="right") <= allowed)
    return next(fitting, seconds)
