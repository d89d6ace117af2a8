"""Which quantization leads at which time limit, and the rows of the table of crossovers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from edgequant.matching.choosing import (
    Chosen,
    Flags,
    best_of,
    choose,
    deal,
    quickest_first,
    right_of,
)
from edgequant.matching.crossover import (
    changes_of_owner,
    event_times,
    find_crossover,
    paired_at,
)
from edgequant.matching.curves import Curve, Floats, Integers
from edgequant.matching.cuts import Changes
from edgequant.matching.intervals import holm_rejected, mcnemar_ahead_p
from edgequant.matching.rows import Row

ANY_PROMPT = "any"


@dataclass(frozen=True)
class Standing:
    """How quantizations stand to each other at some time limits.

    Attributes:
        limits: seconds, rising.
        chosen: of each quantization, the best of its configurations.
        lead: of each pair, +1 where the first is surely ahead, -1 where the second is, else 0;
            shape (limits,). See :func:`both_ways_p`; by Holm's method over all pairs and limits.
    """

    limits: Floats
    chosen: Mapping[str, Chosen]
    lead: Mapping[tuple[str, str], Integers]

    def ahead_of(self, first: str, second: str) -> Integers:
        """The lead of a pair, in whichever order it is kept."""
        if (first, second) in self.lead:
            return self.lead[first, second]
        return -self.lead[second, first]


def by_quantization(curves: Sequence[Curve]) -> dict[str, list[Curve]]:
    """The configurations of each quantization, the quickest first."""
    names = dict.fromkeys(curve.group.quantization for curve in curves)
    return {
        name: quickest_first([c for c in curves if c.group.quantization == name]) for name in names
    }


def stand(members: Mapping[str, Sequence[Curve]], limits: Floats, parts: Integers) -> Standing:
    """Compare quantizations at time limits, each by the best of its configurations.

    Args:
        members: the configurations of each quantization.
        limits: seconds, rising.
        parts: of each question, see :func:`edgequant.matching.choosing.deal`.
    """
    right = {name: right_of(curves, limits) for name, curves in members.items()}
    pairs = list(combinations(right, 2))
    chosen = {name: choose(flags, parts) for name, flags in right.items()}
    if not pairs:
        return Standing(limits, chosen, {})
    p_values = np.array([both_ways_p(right[a], right[b]) for a, b in pairs])
    first, second = holm_rejected(p_values).transpose(1, 0, 2).astype(np.int64)
    return Standing(limits, chosen, dict(zip(pairs, first - second, strict=True)))


def both_ways_p(first: Flags, second: Flags) -> Floats:
    """p-values of "the first is not ahead" and "the second is not ahead"; shape (2, times).

    A quantization is ahead if one of its configurations beats every one of the other's. So of the
    tests of one against all others the worst counts (all must reject), and of the configurations
    that may do so the best one, times their number. It is exact, however alike or unlike the
    configurations are, and no choice among them makes it less so.

    Args:
        first: right or wrong, shape (configurations, n, times).
        second: the same questions at the same times.
    """
    a, b = (np.moveaxis(flags, 2, 0).astype(np.float32) for flags in (first, second))
    both = np.rint(a @ b.transpose(0, 2, 1)).astype(np.int64)
    only_a = np.rint(a.sum(axis=2)).astype(np.int64)[:, :, None] - both
    only_b = np.rint(b.sum(axis=2)).astype(np.int64)[:, None, :] - both
    a_ahead = mcnemar_ahead_p(only_a, only_b).max(axis=2).min(axis=1) * len(first)
    b_ahead = mcnemar_ahead_p(only_b, only_a).max(axis=1).min(axis=1) * len(second)
    return np.asarray(np.minimum(1.0, np.stack([a_ahead, b_ahead])), dtype=np.float64)


def crossover_rows(curves: Sequence[Curve], limits: Floats) -> list[Row]:
    """Changes of lead: over all configurations, and of each prompt and strategy alone.

    Args:
        curves: of one latency source.
        limits: time limits at which leads are claimed.
    """
    parts = deal(curves[0].group.question_ids)
    families = dict.fromkeys((c.group.prompt, c.group.strategy) for c in curves)
    rows = list(_family_rows(curves, limits, parts, {"prompt": ANY_PROMPT, "strategy": None}))
    for prompt, strategy in families:
        own = [c for c in curves if (c.group.prompt, c.group.strategy) == (prompt, strategy)]
        named: Row = {"prompt": prompt, "strategy": strategy}
        rows += _family_rows(own, limits, parts, named)
    return rows


def _family_rows(
    curves: Sequence[Curve], limits: Floats, parts: Integers, family: Row
) -> Iterator[Row]:
    members = by_quantization(curves)
    standing = stand(members, limits, parts)
    best: dict[str, tuple[Changes, Changes]] = {}
    for pair, lead in standing.lead.items():
        changes = changes_of_owner(lead)
        if changes:
            best |= {name: _both_ways(members[name], parts) for name in pair if name not in best}
        elif _cross(*(standing.chosen[name].right for name in pair)):
            first, second = pair
            named: Row = {"first_quantization": first, "second_quantization": second}
            yield {**family, **named, "confident": False}
        for before, after in changes:
            ahead = float(limits[before]), float(limits[after])
            leader, follower = pair if lead[before] > 0 else pair[::-1]
            named = {"first_quantization": leader, "second_quantization": follower}
            row = _confident_row(best[leader], best[follower], ahead, len(parts))
            yield {**family, **named, **row}


def _cross(first: Flags, second: Flags) -> bool:
    """Whether each is ahead at some time, chance or not."""
    difference = first.sum(axis=0) - second.sum(axis=0)
    return bool((difference > 0).any() and (difference < 0).any())


def _both_ways(curves: Sequence[Curve], parts: Integers) -> tuple[Changes, Changes]:
    """The best of some configurations, chosen without each part, and chosen by all questions."""
    if len(curves) == 1:
        return curves[0].changes, curves[0].changes
    return best_of(curves, parts), best_of(curves, parts, held_out=False)


def _confident_row(
    leaders: tuple[Changes, Changes],
    followers: tuple[Changes, Changes],
    ahead: tuple[float, float],
    n: int,
) -> Row:
    """A change of lead between two times at which different ones surely lead.

    Choices made on parts waver where configurations are equally good, those made on all questions
    lean to one with more to choose from: the interval holds what either way allows.
    """
    leader, follower = leaders[0], followers[0]
    found, seen = (find_crossover(a, b, ahead) for a, b in zip(leaders, followers, strict=True))
    times = np.union1d(event_times(leader, follower), ahead)
    only_leader, only_follower = paired_at(leader, follower, times)
    lead = (only_leader - only_follower) / n
    overtaken = int(np.searchsorted(times, found.seconds))
    most, least = int(lead[:overtaken].argmax()), overtaken + int(lead[overtaken:].argmin())
    return {
        "seconds": found.seconds,
        "seconds_low": min(found.seconds_low, seen.seconds_low),
        "seconds_high": max(found.seconds_high, seen.seconds_high),
        "first_ahead_seconds": ahead[0],
        "second_ahead_seconds": ahead[1],
        "lead_before": float(lead[most]),
        "lead_before_seconds": float(times[most]),
        "lead_after": float(-lead[least]),
        "lead_after_seconds": float(times[least]),
        "confident": True,
    }
