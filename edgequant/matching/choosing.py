"""Choosing the best of several configurations without praising it for having been chosen.

Whoever takes the best of many on some questions and reports it on the same questions reports too
much. So the questions are dealt into parts; for each part the choice is made on the others, and the
part's own questions say what it is worth. All questions are used, each by a choice made without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgequant.matching.crossover import event_times
from edgequant.matching.curves import Curve, Floats, Integers
from edgequant.matching.cuts import Changes

PARTS = 5
"""With five, a choice is made on four fifths of the questions: nearly what all would choose."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Chosen:
    """The best choices within some times.

    Attributes:
        right: of each question within each time, by the choice made without it;
            shape (n, times).
        choice: place of the choice that all questions make; shape (times,).
        right_seen: how many questions that choice answers right; shape (times,).
        right_elsewhere: how many questions outside a part are answered right by the choice made
            there; shape (parts, times).
    """

    right: Flags
    choice: Integers
    right_seen: Integers
    right_elsewhere: Integers


def deal(question_ids: Sequence[str]) -> Integers:
    """The part of each question: dealt evenly in the order of their hashes, not of their file."""
    hashes = [hashlib.sha256(name.encode()).digest() for name in question_ids]
    parts = np.empty(len(hashes), dtype=np.int64)
    parts[sorted(range(len(hashes)), key=hashes.__getitem__)] = np.arange(len(hashes)) % PARTS
    return parts


def right_of(curves: Sequence[Curve], seconds: Floats) -> Flags:
    """Which configuration answers which question right within which time.

    Args:
        curves: at least one configuration; all of the same n questions.
        seconds: times, rising.

    Returns:
        Shape (curves, n, times).
    """
    return np.stack([curve.right_at(seconds) for curve in curves])


def choose(right: Flags, parts: Integers) -> Chosen:
    """The most accurate of some configurations within each time, of equal ones the first.

    Args:
        right: see :func:`right_of`; shape (configurations, n, times).
        parts: of each question, shape (n,); see :func:`deal`.
    """
    in_part = (np.arange(PARTS)[:, None] == parts).astype(np.float32)
    # Whole numbers far below 2**24: exact, and the matrix product is the fast one.
    per_part = np.rint(in_part @ right.astype(np.float32)).astype(np.int64)
    total = per_part.sum(axis=1)
    elsewhere = total[:, None, :] - per_part
    choices = elsewhere.argmax(axis=0)
    question, time = np.indices(right.shape[1:])
    own = right[choices[parts], question, time]
    return Chosen(own, total.argmax(axis=0), total.max(axis=0), elsewhere.max(axis=0))


def best_of(curves: Sequence[Curve], parts: Integers, *, held_out: bool = True) -> Changes:
    """What :func:`choose` answers right, at every time at once: when it turns right and wrong.

    The same question may change more than once at the same time, by steps that add up.

    Args:
        curves: of the same n questions; of equally accurate ones the first is chosen.
        parts: of each question, shape (n,).
        held_out: the choice is made without the part; else by all questions.
    """
    if len(curves) == 1:
        return curves[0].changes
    times = event_times(*(curve.changes for curve in curves))
    choice = _choices(curves, parts, times, held_out=held_out)
    pieces: list[tuple[Integers, Floats, Integers]] = []
    for place, curve in enumerate(curves):
        question, when, step = curve.changes.question, curve.changes.when, curve.changes.step
        now = np.searchsorted(times, when)
        own = choice[parts[question], now] == place
        own &= choice[parts[question], np.maximum(now - 1, 0)] == place
        pieces.append((question[own], when[own], step[own]))
    pieces += [
        _switches(curves, np.flatnonzero(parts == part), times, choice[part])
        for part in range(PARTS)
    ]
    question, when, step = (np.concatenate(column) for column in zip(*pieces, strict=True))
    changes = Changes(question, when, step)
    return changes.at(changes.when)


def _choices(
    curves: Sequence[Curve], parts: Integers, times: Floats, *, held_out: bool
) -> Integers:
    """The choice for each part, made without it or by all; shape (parts, times)."""
    most = np.full((PARTS, len(times)), -1, dtype=np.int32)
    choice = np.zeros((PARTS, len(times)), dtype=np.int64)
    for place, curve in enumerate(curves):
        changes = curve.changes
        right = np.zeros((PARTS, len(times)), dtype=np.int32)
        np.add.at(
            right, (parts[changes.question], np.searchsorted(times, changes.when)), changes.step
        )
        right.cumsum(axis=1, out=right)
        elsewhere = right.sum(axis=0) - right * held_out
        choice[elsewhere > most] = place
        np.maximum(most, elsewhere, out=most)
    return choice


def _switches(
    curves: Sequence[Curve], questions: Integers, times: Floats, choice: Integers
) -> tuple[Integers, Floats, Integers]:
    """Which of a part's questions turn right or wrong because another curve is chosen."""
    switch = np.flatnonzero(np.diff(choice)) + 1
    before, after = (np.zeros((len(questions), len(switch)), dtype=np.int8) for _ in range(2))
    for place, curve in enumerate(curves):
        left, taken = choice[switch - 1] == place, choice[switch] == place
        before[:, left] = curve.right_at(times[switch[left] - 1])[questions]
        after[:, taken] = curve.right_at(times[switch[taken]])[questions]
    question, at = np.nonzero(after - before)
    return questions[question], times[switch[at]], (after - before)[question, at].astype(np.int64)


def quickest_first(curves: Sequence[Curve]) -> list[Curve]:
    """Curves by the mean seconds of their answers: of equally accurate ones the first is chosen."""
    return sorted(curves, key=lambda curve: float(curve.whole_seconds.mean()))
