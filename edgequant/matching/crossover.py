"""Where one quantization overtakes another, and how sure that is. Exact tests, no random numbers.

A lead is claimed at time limits alone (:mod:`edgequant.matching.leads`). Between two claimed leads
of different owners lies a crossover. Its interval holds every time at which the two could be equal:
from the first to the last at which a mid-p McNemar test does not tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edgequant.matching.intervals import LEVEL, Counts, Floats, mcnemar_mid_p, paired_counts

END_FACTOR = 1.25
"""The last step is given this much room (times its start), as it has no end of its own."""
BLOCK = 128
"""Times that are looked at together: the memory that a search takes, not its result."""

Flags = npt.NDArray[np.bool_]
RightAt = Callable[[Floats], Flags]
"""Rising times to who is right within each of them, shape (n, times)."""


@dataclass(frozen=True, slots=True)
class Crossover:
    """The lead goes from one to the other, and both leads are beyond chance.

    Attributes:
        seconds: from here on the second one leads: the time that best splits the span between
            both claimed leads into a part of the one and a part of the other.
        seconds_low: lower end of the 95 % interval.
        seconds_high: upper end. Where the data know no time in between, both ends are those of
            the one step at which everything happens.
        first_leads: the first of the two handed in leads before (and the second after).
        first_ahead_seconds: last time limit at which the one that is overtaken is surely ahead.
        second_ahead_seconds: first time limit at which the other one surely is.
    """

    seconds: float
    seconds_low: float
    seconds_high: float
    first_leads: bool
    first_ahead_seconds: float
    second_ahead_seconds: float


def changes_of_owner(lead: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Places (last of the one, first of the other) between which a sure lead changes hands."""
    sure = np.flatnonzero(lead)
    return [(int(a), int(b)) for a, b in pairwise(sure) if lead[a] != lead[b]]


def find_crossover(
    first: RightAt,
    second: RightAt,
    events: Floats,
    ahead: tuple[float, float],
) -> Crossover:
    """The crossover between two times at which different ones surely lead.

    Args:
        first: who the first answers right.
        second: who the second does.
        events: all times at which either changes, rising.
        ahead: (last time at which the one is ahead, first time at which the other is).
    """
    start, end = ahead
    inside = events[(events > start) & (events < end)]
    times = np.concatenate([[start], inside, [end]])
    only_first, only_second = _counts(first, second, times)
    lead = only_first - only_second
    owner = int(np.sign(lead[0]))
    gain = owner * lead * _logarithmic_lengths(times)
    split = _best_split(gain)
    p = mcnemar_mid_p(only_first, only_second)
    equal = np.flatnonzero(p >= 1 - LEVEL)
    if len(equal):
        low, high = times[equal[0]], times[min(equal[-1] + 1, len(times) - 1)]
    else:
        last = int(np.flatnonzero(np.sign(lead) == owner)[-1])
        low, high = times[last], times[min(last + 1, len(times) - 1)]
    seconds = float(times[split])
    return Crossover(
        seconds=seconds,
        seconds_low=min(float(low), seconds),
        seconds_high=max(float(high), seconds),
        first_leads=owner > 0,
        first_ahead_seconds=float(start),
        second_ahead_seconds=float(end),
    )


def _counts(first: RightAt, second: RightAt, times: Floats) -> tuple[Counts, Counts]:
    blocks: Sequence[tuple[Counts, Counts]] = [
        paired_counts(first(block), second(block))
        for block in np.split(times, np.arange(BLOCK, len(times), BLOCK))
    ]
    only_first, only_second = zip(*blocks, strict=True)
    return np.concatenate(only_first), np.concatenate(only_second)


def _logarithmic_lengths(times: Floats) -> Floats:
    """How long each step lasts; one that starts at 0 s has the length of the next one."""
    if times[-1] <= 0:
        return np.ones_like(times)
    positive = np.log(times[times > 0])
    lengths = np.diff(np.append(positive, positive[-1] + np.log(END_FACTOR)))
    return lengths if times[0] > 0 else np.append(lengths[:1], lengths)


def _best_split(gain: Floats) -> int:
    """The place from which on the other one leads: where the running sum is highest.

    Of equal ones (a tie in between) the last: there the second really gets ahead.
    """
    total = np.round(np.cumsum(gain), 9)
    last_highest = len(total) - 1 - int(np.argmax(total[::-1]))
    return min(last_highest + 1, len(total) - 1)
