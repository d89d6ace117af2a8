"""The best choice within each time limit, and how it stands to the other quantizations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgequant.matching.choosing import Flags, deal
from edgequant.matching.curves import Curve, Floats, Integers
from edgequant.matching.intervals import (
    bonferroni_level,
    difference_interval,
    paired_counts,
    questions_to_separate,
)
from edgequant.matching.leads import Standing, by_quantization, stand
from edgequant.matching.rows import Row, accuracy, configuration


def best_rows(curves: Sequence[Curve], limits: Floats) -> list[Row]:
    """One row for each time limit.

    Args:
        curves: of one latency source, all of the same n questions.
        limits: seconds, rising.
    """
    parts = deal(curves[0].group.question_ids)
    members = by_quantization(curves)
    standing = stand(members, limits, parts)
    names = list(members)
    first, second = _honest(standing, names, parts)
    seen = np.stack([standing.chosen[name].right_seen for name in names])
    level = bonferroni_level(len(limits))
    rows: list[Row] = []
    for place, limit in enumerate(limits):
        row: Row = {"time_limit_seconds": float(limit)}
        if seen[:, place].max() == 0:
            rows.append(row)
            continue
        best, *others = np.argsort(-seen[:, place], kind="stable")
        name = names[best]
        chosen = members[name][standing.chosen[name].choice[place]]
        right, n = first[:, place], len(parts)
        row |= configuration(chosen.group) | accuracy(int(right.sum()), n)
        row["accuracy_seen"] = float(seen[best, place] / n)
        if others:
            row["runner_up"] = names[others[0]]
            row |= _difference(right, second[:, place], level)
            row |= _others(standing, name, [names[other] for other in others], place)
        rows.append(row)
    return rows


def _honest(standing: Standing, names: Sequence[str], parts: Integers) -> tuple[Flags, Flags]:
    """Right or wrong by the best quantization, and by the next one, of those chosen elsewhere.

    Returns:
        Two of shape (n, limits); the second is the first again where there is one quantization.
    """
    elsewhere = np.stack([standing.chosen[name].right_elsewhere for name in names])
    right = np.stack([standing.chosen[name].right for name in names])
    order = np.argsort(-elsewhere, axis=0, kind="stable")
    best, following = order[0], order[min(1, len(names) - 1)]
    question, limit = np.indices(right.shape[1:])
    return right[best[parts], question, limit], right[following[parts], question, limit]


def _difference(first: Flags, second: Flags, level: float) -> Row:
    only_first, only_second = (int(count) for count in paired_counts(first, second))
    n, both = len(first), int((first & second).sum())
    low, high = difference_interval(both, only_first, only_second, n, level)
    return {
        "difference": (only_first - only_second) / n,
        "difference_low": low,
        "difference_high": high,
        "questions_to_separate": questions_to_separate(only_first, only_second, n, alpha=1 - level),
    }


def _others(standing: Standing, best: str, others: Sequence[str], place: int) -> Row:
    worse = [name for name in others if standing.ahead_of(best, name)[place] > 0]
    return {
        "worse": "; ".join(worse),
        "not_distinguishable_from": "; ".join(name for name in others if name not in worse),
    }
