"""Where one quantization overtakes another: leads, and the times at which they change hands.

Accuracy within a time is a step function: the best accuracy among all points that take at most
that time. Two of them are compared on the times of all their points.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from edgequant.matching.intervals import percentile_interval

LEVEL = 0.95
END_FACTOR = 1.25
"""The last step is given this much room (times its start), as it has no end of its own."""

SHORTEST_LEAD = 1.1
"""A lead must last so long (as a factor on time) to count: shorter ones come from the steps between
the budgets that were tried, and one more budget would close them."""

FEWEST_DIFFERING = 6
"""A lead must be this many questions: fewer, all in favour of one, are not yet significant in the
exact sign test (2 * 0.5**5 > 0.05), however narrow the bootstrap finds the few questions spread."""

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Curve:
    """Points that can be chosen from, with their accuracy in every bootstrap resample.

    Attributes:
        seconds: of each point, shape (points,).
        accuracy: of each point, shape (points,).
        resampled: of each point in each resample, shape (resamples, points). Two curves are
            compared resample by resample, so both must come from the same resampling weights.
    """

    seconds: Floats
    accuracy: Floats
    resampled: Floats


@dataclass(frozen=True, slots=True)
class Crossover:
    """The lead goes from one curve to the other, and both leads are beyond chance.

    Attributes:
        seconds: from here on the second one leads.
        seconds_low: lower end of the 95 % bootstrap interval.
        seconds_high: upper end.
        first_leads: the first curve handed in leads before (and the second after).
        lead_before: the largest lead before, in accuracy.
        lead_after: the largest lead after.
    """

    seconds: float
    seconds_low: float
    seconds_high: float
    first_leads: bool
    lead_before: float
    lead_after: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two curves stand to each other over time.

    Attributes:
        crossovers: the changes of lead that are beyond chance, in their order.
        sign_changes: all changes of lead of the curves as they are, chance or not.
        surely_ahead: "first" or "second" where just that one is ever ahead beyond chance.
    """

    crossovers: tuple[Crossover, ...]
    sign_changes: int
    surely_ahead: str | None


def within_time(curve: Curve, times: Floats) -> tuple[Floats, Floats]:
    """Best accuracy within each time.

    Args:
        curve: at least one point.
        times: seconds, rising, shape (times,).

    Returns:
        Accuracy, shape (times,), and of each resample, shape (resamples, times); 0 where no
        point is quick enough.
    """
    order = np.argsort(curve.seconds, kind="stable")
    best = np.maximum.accumulate(curve.accuracy[order])
    best_resampled = np.maximum.accumulate(curve.resampled[:, order], axis=1)
    # Column 0 stands for "no point is quick enough".
    best = np.concatenate([[0.0], best])
    index = np.searchsorted(curve.seconds[order], times, side="right")
    zeros = np.zeros((best_resampled.shape[0], 1), dtype=best_resampled.dtype)
    return best[index], np.concatenate([zeros, best_resampled], axis=1)[:, index]


def compare(first: Curve, second: Curve, questions: int) -> Comparison:
    """Find the changes of lead between two curves.

    A lead is beyond chance where the difference leaves a 95 % band that holds for all times at
    once (studentized bootstrap), and is of some questions (:data:`FEWEST_DIFFERING`). Between two
    such leads of different owners lies a crossover: the time that best splits the span into a part
    of the one and a part of the other, each time weighted by its lead and by the logarithm of its
    length. With one change of sign that is the time of this change; with several by chance, it
    does not jump to the first or last of them.
    The same is done with each resample for the interval.

    Args:
        first: one curve.
        second: the other, from the same resampling weights.
        questions: how many questions both were asked.
    """
    times = np.unique(np.concatenate([first.seconds, second.seconds]))
    first_best, first_resampled = within_time(first, times)
    second_best, second_resampled = within_time(second, times)
    difference = first_best - second_best
    resampled = first_resampled - second_resampled
    weights = _logarithmic_lengths(times)
    spans = _spans(_sure_owners(difference, resampled, questions), weights)
    crossovers = tuple(
        _crossover(times, weights, difference, resampled, before, after)
        for before, after in pairwise(spans)
    )
    signs = np.sign(np.round(difference, 9))
    signs = signs[signs != 0]
    sure = {owner for owner, _, _ in spans}
    return Comparison(
        crossovers=crossovers,
        sign_changes=int(np.count_nonzero(signs[1:] != signs[:-1])),
        surely_ahead={1: "first", -1: "second"}[sure.pop()] if len(sure) == 1 else None,
    )


def _logarithmic_lengths(times: Floats) -> Floats:
    """How long each step lasts; one that starts at 0 s has the length of the next one."""
    if times[-1] <= 0:
        return np.ones_like(times)
    positive = np.log(times[times > 0])
    lengths = np.diff(np.append(positive, positive[-1] + np.log(END_FACTOR)))
    return lengths if times[0] > 0 else np.append(lengths[:1], lengths)


def _sure_owners(difference: Floats, resampled: Floats, questions: int) -> npt.NDArray[np.int64]:
    """+1 where the first leads beyond chance, -1 where the second does, else 0."""
    # With a question or two that differ, the bootstrap's own spread is too small to divide by.
    spread = np.maximum(resampled.std(axis=0), 2 / questions)
    deviation = np.abs(resampled - difference) / spread
    critical = float(np.quantile(deviation.max(axis=1), LEVEL))
    # Half a question of room for rounding: differences are whole questions.
    fewest = (FEWEST_DIFFERING - 0.5) / questions
    sure = np.abs(difference) > np.maximum(critical * spread, fewest)
    return np.where(sure, np.sign(difference), 0).astype(np.int64)


def _spans(owners: npt.NDArray[np.int64], weights: Floats) -> list[tuple[int, int, int]]:
    """(owner, first index, last index) of each run of sure leads by the same owner."""
    runs: list[tuple[int, int, int]] = []
    for index in map(int, np.flatnonzero(owners)):
        _join(runs, (int(owners[index]), index, index))
    spans: list[tuple[int, int, int]] = []
    for owner, start, end in runs:
        window = slice(start, end + 1)
        lasting = float(weights[window][owners[window] == owner].sum())
        if lasting >= np.log(SHORTEST_LEAD):
            _join(spans, (owner, start, end))
    return spans


def _join(spans: list[tuple[int, int, int]], span: tuple[int, int, int]) -> None:
    """Append a span, or lengthen the last one where the owner is the same."""
    if spans and spans[-1][0] == span[0]:
        spans[-1] = (span[0], spans[-1][1], span[2])
    else:
        spans.append(span)


def _crossover(
    times: Floats,
    weights: Floats,
    difference: Floats,
    resampled: Floats,
    before: tuple[int, int, int],
    after: tuple[int, int, int],
) -> Crossover:
    owner, start, _ = before
    _, _, end = after
    window = slice(start, end + 1)
    gain = owner * difference[window] * weights[window]
    gain_resampled = owner * resampled[:, window] * weights[window]
    split = start + int(_best_split(gain[None, :])[0])
    splits = start + _best_split(gain_resampled)
    low, high = percentile_interval(times[splits], LEVEL)
    return Crossover(
        seconds=float(times[split]),
        seconds_low=min(low, float(times[split])),
        seconds_high=max(high, float(times[split])),
        first_leads=owner > 0,
        lead_before=float((owner * difference[start:split]).max()),
        lead_after=float((-owner * difference[split : end + 1]).max()),
    )


def _best_split(gain: Floats) -> npt.NDArray[np.int64]:
    """In each row, the index from which on the second leads: where the running sum is highest.

    Of equal ones (a tie in between) the last: there the second really gets ahead.
    """
    rounded = np.round(np.cumsum(gain, axis=1), 9)
    width = rounded.shape[1]
    last_highest = width - 1 - np.argmax(rounded[:, ::-1], axis=1)
    splits: npt.NDArray[np.int64] = np.minimum(last_highest + 1, width - 1)
    return splits
