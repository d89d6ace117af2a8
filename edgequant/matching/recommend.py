"""What to take for a time limit: the best choice, what it is worth, how far one may trust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgequant.core.errors import DataFrameError
from edgequant.core.tables import records
from edgequant.latency.pace import Pace
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.match import match_groups

TOKEN_STEPS = 1_000_000
"""No answer is taken to be longer than this."""


@dataclass(frozen=True)
class Recommendation:
    """The best choice within one time limit. None where nothing is right within it.

    Attributes:
        seconds: the time limit.
        latency_source: whose seconds they are.
        max_tokens: tokens that fit into the limit after the longest prompt that was asked.
        accuracy: share right that is to be expected, from questions it was not chosen by.
        accuracy_low: lower end of its 95 % interval.
        accuracy_high: upper end.
        n: questions.
        runner_up: the next best other quantization.
        difference: how much more is right than with it.
        difference_low: lower end of its interval, which holds for all limits asked for at once.
        difference_high: upper end.
        questions_to_separate: questions that would tell the two apart.
        worse: quantizations that are worse beyond chance.
        not_distinguishable_from: the other ones.
    """

    seconds: float
    latency_source: str
    quantization: str | None = None
    prompt: str | None = None
    strategy: str | None = None
    budget_tokens: int | None = None
    max_tokens: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    n: int | None = None
    runner_up: str | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    questions_to_separate: int | None = None
    worse: tuple[str, ...] = ()
    not_distinguishable_from: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


def recommend(
    groups: Sequence[AnswerGroup],
    paces: Sequence[Pace],
    seconds: Sequence[float],
    grader: str = "exact",
) -> list[Recommendation]:
    """One recommendation for each time limit and latency source.

    Args:
        groups: graded answers.
        paces: of one or more sources.
        seconds: time limits.
        grader: whose verdicts count.

    Raises:
        DataFrameError: no limit, or no latency fits the answers.
    """
    if not seconds:
        raise DataFrameError("no time limit to recommend something for")
    best = match_groups(groups, paces, time_limits_seconds=seconds, grader=grader).best
    return [_recommendation(row, groups, paces) for row in records(best)]


def tokens_within(pace: Pace, prompt_tokens: int, seconds: float) -> int:
    """How many tokens of an answer are there within some seconds of a question; 0: not even one."""
    low, high = 0, TOKEN_STEPS
    while low < high:
        middle = (low + high + 1) // 2
        if pace.seconds(float(prompt_tokens), float(middle)) <= seconds:
            low = middle
        else:
            high = middle - 1
    return low


def _recommendation(
    row: dict[str, Any], groups: Sequence[AnswerGroup], paces: Sequence[Pace]
) -> Recommendation:
    limit, source = row.pop("time_limit_seconds"), row.pop("latency_source")
    if row["quantization"] is None:
        return Recommendation(limit, source)
    key = tuple(row[name] for name in ("quantization", "prompt", "strategy", "budget_tokens"))
    group = next(
        g for g in groups if (g.quantization, g.prompt, g.strategy, g.budget_tokens) == key
    )
    pace = next(p for p in paces if (p.source, p.quantization) == (source, group.quantization))
    fitting = tokens_within(pace, int(np.max(group.prompt_tokens)), limit)
    values = {name: row[name] for name in Recommendation.__annotations__ if name in row}
    for name in ("worse", "not_distinguishable_from"):
        values[name] = tuple(filter(None, (row[name] or "").split("; ")))
    return Recommendation(limit, source, **values, max_tokens=min(fitting, group.longest))
