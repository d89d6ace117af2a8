"""The time limits at which configurations are compared: put where the curves change.

They are taken from all changes of all configurations together, whichever they belong to. So they
know nothing of who is ahead, and a test at such a time is as exact as at one fixed beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgequant.matching.curves import Curve, Floats

LIMITS = 16
"""More rows find more changes of lead and need a larger lead each: at 16 a lead must be of 3.0
standard errors where one look alone would take 2.0."""
_DIGITS = 2


def time_limits(curves: Sequence[Curve], count: int = LIMITS) -> list[float]:
    """Times between which equally many answers turn right or wrong, the last one after all.

    Args:
        curves: of one latency source.
        count: how many at most; fewer where they round to the same.

    Returns:
        Rising seconds, rounded up to two digits; those of the longest answer where none changes.
    """
    when = np.concatenate([curve.changes.when for curve in curves])
    if not len(when):
        return [round_up(max(float(curve.whole_seconds.max()) for curve in curves))]
    return sorted({round_up(float(t)) for t in spread_evenly(when, count)})


def spread_evenly(when: Floats, count: int) -> Floats:
    """At most ``count`` of some times, equally many between each two, the last of all included."""
    ordered = np.sort(when)
    places = np.ceil(np.arange(1, count + 1) * len(ordered) / count).astype(np.int64) - 1
    return np.unique(ordered[places])


def round_up(seconds: float) -> float:
    """The next larger number of two digits; 0 stays."""
    if seconds <= 0:
        return seconds
    exponent = math.floor(math.log10(seconds)) - _DIGITS + 1
    unit = 10.0**exponent
    whole = math.ceil(seconds / unit * (1 - 1e-12))
    # Through text: 3 * 0.1 is not 0.3.
    return float(f"{whole}e{exponent}")
