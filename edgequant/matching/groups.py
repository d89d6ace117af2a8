"""All answers, graded and put together as configurations that answer the same questions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from edgequant.answers.strategies.registry import base_name, strategies, strategy_named
from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import check_table, records
from edgequant.matching.cuts import AnswerGroup, Changes
from edgequant.matching.grading import GRADED, Key, Ungraded
from edgequant.matching.shares import grade_all

if TYPE_CHECKING:
    import pandas as pd

_KEY = ("quantization", "prompt", "strategy", "budget_tokens")
_ARRAYS = (
    *("tokens", "prompt_tokens", "closing_start", "closing_tokens"),
    *("boxed", "limited", "failed", "looped"),
)
TASKS_JOINED = " + "
"""Between the prompts of a configuration whose tasks are asked in prompts of their own."""


def group_answers(
    answers: pd.DataFrame, questions: pd.DataFrame, graders: Collection[str] | None = None
) -> list[AnswerGroup]:
    """Grade all answers, group by group.

    Args:
        answers: as ``generate`` writes them; see :data:`edgequant.core.schemas.ANSWERS`.
        questions: with the right answers; see :data:`edgequant.core.schemas.QUESTIONS`. Questions
            that nobody answered are passed over.
        graders: whose verdicts are wanted ("exact", "lenient" ...), by default everyone's;
            "exact" is always among them.

    Raises:
        DataFrameError: a column is missing or of another type, a group lacks questions that
            others have or has one twice, an answer's question is not among the questions or is
            another one there, or an answer's tokens do not make up its text.
        ExperimentError: a strategy is unknown.
    """
    kept = check_table(answers, ANSWERS)[[*_KEY, *GRADED]]
    if kept.empty:
        raise DataFrameError("the answers have no rows")
    gold = _gold(questions)
    members = [
        Ungraded(_key(frame), frame[list(GRADED)])
        for _, frame in kept.groupby(list(_KEY), dropna=False, sort=False)
    ]
    for member in members:
        strategy_named(member.key[2])
    order = list(strategies())
    members.sort(
        key=lambda m: (*m.key[:2], order.index(base_name(m.key[2])), m.key[2], m.key[3] or 0)
    )
    groups = _across_tasks(grade_all(members, gold, graders))
    _check_same_questions(groups)
    return groups


def _key(frame: pd.DataFrame) -> Key:
    (row,) = records(frame.head(1)[list(_KEY)])
    return row["quantization"], row["prompt"], row["strategy"], row["budget_tokens"]


def _gold(questions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    gold: dict[str, dict[str, Any]] = {}
    for row in records(check_table(questions, QUESTIONS)):
        if gold.setdefault(row["question_id"], row) is not row:
            raise DataFrameError(f"the questions have {row['question_id']} more than once")
    return gold


def _across_tasks(groups: Sequence[AnswerGroup]) -> list[AnswerGroup]:
    """Configurations over all tasks, where tasks are asked in prompts of their own.

    Each task's prompt is then a part of the configuration: "cot + choice". Where every prompt asks
    the same tasks, nothing changes.
    """
    asked = {group.prompt: frozenset(group.tasks) for group in groups}
    parts = sorted(set(asked.values()), key=sorted)
    disjoint = sum(map(len, parts)) == len(frozenset().union(*parts))
    if len(parts) == 1 or not disjoint:
        return list(groups)
    found: dict[tuple[str, str, int | None], list[list[AnswerGroup]]] = {}
    for group in groups:
        way = (group.quantization, group.strategy, group.budget_tokens)
        members = found.setdefault(way, [[] for _ in parts])
        members[parts.index(asked[group.prompt])].append(group)
    return [_joined(chosen) for members in found.values() for chosen in product(*members)]


def _joined(groups: Sequence[AnswerGroup]) -> AnswerGroup:
    """The answers of several tasks as those of one configuration."""
    order = sorted(
        (question, place, own)
        for place, group in enumerate(groups)
        for own, question in enumerate(group.question_ids)
    )
    places = [np.empty(len(group.question_ids), dtype=np.int64) for group in groups]
    for new, (_, place, own) in enumerate(order):
        places[place][own] = new

    def changes(role: str) -> Changes:
        parts = [group.changes[role] for group in groups]
        question = np.concatenate([p[c.question] for p, c in zip(places, parts, strict=True)])
        when = np.concatenate([c.when for c in parts])
        return Changes(question, when, np.concatenate([c.step for c in parts])).at(when)

    arrays: dict[str, Any] = {
        name: np.array([getattr(groups[place], name)[own] for _, place, own in order])
        for name in _ARRAYS
    }
    return replace(
        groups[0],
        prompt=TASKS_JOINED.join(group.prompt for group in groups),
        question_ids=tuple(question for question, _, _ in order),
        tasks=tuple(groups[place].tasks[own] for _, place, own in order),
        changes={role: changes(role) for role in groups[0].changes},
        **arrays,
    )


def _check_same_questions(groups: Sequence[AnswerGroup]) -> None:
    every = tuple(sorted({question for group in groups for question in group.question_ids}))
    for group in groups:
        if group.question_ids == every:
            continue
        told = "" if group.budget_tokens is None else f" at {group.budget_tokens} tokens"
        name = f"{group.quantization}, {group.prompt}, {group.strategy}{told}"
        unique = set(group.question_ids)
        problem = (
            f"has answers to {len(unique)} of {len(every)} questions"
            if len(unique) < len(every)
            else "has more than one answer to a question"
        )
        raise DataFrameError(
            f"{name}: {problem}; all must answer the same ones to be compared",
            next_step="generate the missing answers, or leave that group out",
        )
