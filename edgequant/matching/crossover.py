"""Where one quantization overtakes another, and how sure that is. Exact tests, no random numbers.

A lead is claimed at time limits alone (:mod:`edgequant.matching.leads`). Between two claimed leads
of different owners lies a crossover. Its interval holds every time at which the two could be equal:
from the first to the last at which a mid-p McNemar test does not tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edgequant.matching.cuts import Changes
from edgequant.matching.intervals import LEVEL, Counts, Floats, mcnemar_mid_p

END_FACTOR = 1.25
"""The last step is given this much room (times its start), as it has no end of its own."""


@dataclass(frozen=True, slots=True)
class Crossover:
    """The lead goes from one to the other, and both leads are beyond chance.

    Attributes:
        seconds: from here on the second one leads: the time that best splits the span between
            both claimed leads into a part of the one and a part of the other.
        seconds_low: lower end of the 95 % interval.
        seconds_high: upper end. Where the data know no time in between, both ends are those of
            the one step at which everything happens.
    """

    seconds: float
    seconds_low: float
    seconds_high: float


def changes_of_owner(lead: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Places (last of the one, first of the other) between which a sure lead changes hands."""
    sure = np.flatnonzero(lead)
    return [(int(a), int(b)) for a, b in pairwise(sure) if lead[a] != lead[b]]


def find_crossover(leader: Changes, follower: Changes, ahead: tuple[float, float]) -> Crossover:
    """The crossover between two times at which different ones surely lead.

    Args:
        leader: when the one that is overtaken turns right and wrong.
        follower: when the one that overtakes does.
        ahead: (last time at which the one is surely ahead, first time at which the other is).
    """
    start, end = ahead
    events = event_times(leader, follower)
    times = np.concatenate([[start], events[(events > start) & (events < end)], [end]])
    only_leader, only_follower = paired_at(leader, follower, times)
    lead = only_leader - only_follower
    split = _best_split(lead * _logarithmic_lengths(times))
    equal = np.flatnonzero(mcnemar_mid_p(only_leader, only_follower) >= 1 - LEVEL)
    if len(equal):
        first, last = equal[0], equal[-1]
    else:
        first = last = max(np.flatnonzero(lead > 0), default=0)
    seconds = float(times[split])
    return Crossover(
        seconds=seconds,
        seconds_low=min(float(times[first]), seconds),
        seconds_high=max(float(times[min(last + 1, len(times) - 1)]), seconds),
    )


def event_times(*changes: Changes) -> Floats:
    """All times at which any of them changes, rising."""
    return np.unique(np.concatenate([some.when for some in changes]))


def paired_at(first: Changes, second: Changes, times: Floats) -> tuple[Counts, Counts]:
    """Questions that only the first, and that only the second answers right within each time.

    Args:
        first: when the first turns right and wrong, in any order of ties.
        second: the same questions by the second.
        times: rising.
    """
    question = np.concatenate([first.question, second.question])
    when = np.concatenate([first.when, second.when])
    step = np.zeros((2, len(question)), dtype=np.int64)
    step[0, : len(first.step)], step[1, len(first.step) :] = first.step, second.step
    order = np.lexsort((when, question))
    question, when, step = question[order], when[order], step[:, order]
    begins = np.diff(question, prepend=-1) != 0
    total = step.cumsum(axis=1)
    before = (total - step)[:, begins]
    right = total - before[:, begins.cumsum() - 1] > 0
    only = (right & ~right[::-1]).astype(np.int64)
    change = np.diff(only, axis=1, prepend=0)
    change[:, begins] = only[:, begins]
    place = np.searchsorted(times, when, side="left")
    only_first, only_second = (
        np.bincount(place, weights=row, minlength=len(times) + 1)[: len(times)].cumsum()
        for row in change
    )
    return only_first.astype(np.int64), only_second.astype(np.int64)


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
