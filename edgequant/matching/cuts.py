"""Answers graded at every length: what the first tokens of each say, right or wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgequant.answers.loops import find_loop
from edgequant.answers.strategies.registry import base_name, strategies, strategy_named
from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import check_table, records
from edgequant.matching.graders.grader import Grader, readings_by_token
from edgequant.matching.graders.registry import INTEGER, by_role

if TYPE_CHECKING:
    import pandas as pd

_Key = tuple[str, str, str, int | None]
"""Quantization, prompt, strategy, the strategy's budget."""
_KEY = ("quantization", "prompt", "strategy", "budget_tokens")
_GRADED = (
    *_KEY,
    "question_id",
    "question_sha256",
    "token_ids",
    "token_texts",
    "text",
    "stop_reason",
    "prompt_tokens",
    "closing_start",
    "closing_tokens",
)
_ARRAYS = (
    *("tokens", "prompt_tokens", "closing_start", "closing_tokens"),
    *("boxed", "limited", "failed", "looped"),
)
TASKS_JOINED = " + "
"""Between the prompts of a configuration whose tasks are asked in prompts of their own."""
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Changes:
    """Where answers turn right or wrong, all of them wrong at first.

    Attributes:
        question: place of the question, shape (m,).
        when: tokens or seconds from which on it is so, rising, shape (m,).
        step: +1 where it turns right, -1 where it turns wrong, shape (m,).
    """

    question: Integers
    when: npt.NDArray[Any]
    step: Integers

    def at(self, when: npt.NDArray[Any]) -> Changes:
        """The same changes on another scale, in its order."""
        order = np.argsort(when, kind="stable")
        return Changes(self.question[order], when[order], self.step[order])

    def right_at(self, limits: npt.ArrayLike, n: int) -> Flags:
        """Which of n questions are right within each limit; shape (n, limits), limits rising."""
        grid = np.asarray(limits)
        total = np.zeros((n, len(grid) + 1), dtype=np.int8)
        np.add.at(total, (self.question, np.searchsorted(grid, self.when, side="left")), self.step)
        return total[:, :-1].cumsum(axis=1, dtype=np.int8) > 0


@dataclass(frozen=True)
class AnswerGroup:
    """The answers of one configuration.

    Attributes:
        strategy: label of the strategy that asked.
        budget_tokens: the budget that it was given; None where there is none.
        question_ids: n questions, sorted; the same in every group.
        tasks: of each question; "" where it belongs to none.
        changes: by grader ("exact", "lenient", ...): where verdicts change, in tokens.
        tokens: tokens of each answer, shape (n,).
        prompt_tokens: of each question's prompt, shape (n,).
        closing_start: first token of a closing text that was put into the answer; -1: none.
        closing_tokens: how many tokens it has.
        boxed: the headline's grader finds an answer in it, shape (n,).
        limited: the answer was cut off by the limit it was generated with, shape (n,).
        failed: no mirror gave an answer, shape (n,).
        looped: the answer repeats itself without end, shape (n,).
    """

    quantization: str
    prompt: str
    strategy: str
    budget_tokens: int | None
    question_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    changes: Mapping[str, Changes]
    tokens: Integers
    prompt_tokens: Integers
    closing_start: Integers
    closing_tokens: Integers
    boxed: Flags
    limited: Flags
    failed: Flags
    looped: Flags

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return int(self.tokens.max())

    def correct(self, cuts: Sequence[int], grader: str = "exact") -> Flags:
        """Right or wrong where answers are cut after so many tokens; shape (n, len(cuts))."""
        return self.changes[grader].right_at(cuts, len(self.question_ids))


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
    kept = check_table(answers, ANSWERS)[list(_GRADED)]
    if kept.empty:
        raise DataFrameError("the answers have no rows")
    gold = _gold(questions)
    frames = {_key(frame): frame for _, frame in kept.groupby(list(_KEY), dropna=False, sort=False)}
    for _, _, strategy, _ in frames:
        strategy_named(strategy)
    order = list(strategies())
    keys = sorted(frames, key=lambda k: (k[0], k[1], order.index(base_name(k[2])), k[2], k[3] or 0))
    # Group by group: as Python objects the tokens of all of them would fill the memory.
    groups = _across_tasks(
        [
            _grade_group(key, records(frames[key].sort_values("question_id")), gold, graders)
            for key in keys
        ]
    )
    _check_same_questions(groups)
    return groups


def _key(frame: pd.DataFrame) -> _Key:
    (row,) = records(frame.head(1)[list(_KEY)])
    return row["quantization"], row["prompt"], row["strategy"], row["budget_tokens"]


def _gold(questions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    gold: dict[str, dict[str, Any]] = {}
    for row in records(check_table(questions, QUESTIONS)):
        if gold.setdefault(row["question_id"], row) is not row:
            raise DataFrameError(f"the questions have {row['question_id']} more than once")
    return gold


def _question_of(
    row: Mapping[str, Any], gold: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    found = gold.get(row["question_id"])
    if found is None or found["question_sha256"] != row["question_sha256"]:
        problem = "is not among the questions" if found is None else "is another one there"
        raise DataFrameError(
            f"question {row['question_id']} of the answers {problem}",
            next_step="give the questions that these answers were generated from",
        )
    return found


def _grade_group(
    key: _Key,
    rows: Sequence[Mapping[str, Any]],
    gold: Mapping[str, Mapping[str, Any]],
    graders: Collection[str] | None,
) -> AnswerGroup:
    asked = [_question_of(row, gold) for row in rows]
    verdicts: dict[str, list[_Verdicts]] = {}
    for row, question in zip(rows, asked, strict=True):
        ends = _token_ends(row, f"{key[0]}, {key[1]}, question {row['question_id']}")
        for role, grader in by_role(question["answer_kind"] or INTEGER).items():
            if graders is not None and role not in (*graders, "exact"):
                continue
            verdicts.setdefault(role, []).append(
                _verdicts(grader, row["text"], ends, question["expected_answer"])
            )
    starts = [row["closing_start"] for row in rows]
    return AnswerGroup(
        *key,
        question_ids=tuple(row["question_id"] for row in rows),
        tasks=tuple(question["task"] or "" for question in asked),
        changes={role: _changes(v.turns for v in members) for role, members in verdicts.items()},
        tokens=_integers(len(row["token_ids"]) for row in rows),
        prompt_tokens=_integers(row["prompt_tokens"] for row in rows),
        closing_start=_integers(-1 if start is None else start for start in starts),
        closing_tokens=_integers(row["closing_tokens"] or 0 for row in rows),
        boxed=_flags(v.readable for v in verdicts["exact"]),
        limited=_flags(row["stop_reason"] == "limit" for row in rows),
        failed=_flags(row["stop_reason"] == "failed" for row in rows),
        looped=_flags(find_loop(row["token_ids"]) is not None for row in rows),
    )


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """What a grader says of one answer: the tokens at which right and wrong change by turns."""

    turns: tuple[int, ...]
    readable: bool


def _token_ends(row: Mapping[str, Any], where: str) -> list[int]:
    """Where each token ends: behind the text for those that a stop text cut off."""
    pieces, text = row["token_texts"], row["text"]
    if len(pieces) != len(row["token_ids"]):
        raise DataFrameError(
            f"{where}: {len(pieces)} token_texts for {len(row['token_ids'])} token_ids"
        )
    if not "".join(pieces).startswith(text):
        raise DataFrameError(f"{where}: the token_texts joined are not the text")
    _check_counts(row, where)
    return list(accumulate(len(piece) for piece in pieces))


def _check_counts(row: Mapping[str, Any], where: str) -> None:
    """What seconds are computed from: a wrong count would only show as a wrong time."""
    if row["prompt_tokens"] < 0:
        raise DataFrameError(f"{where}: {row['prompt_tokens']} prompt_tokens")
    start, closing = row["closing_start"], row["closing_tokens"] or 0
    if start is not None and not 0 <= start <= start + closing <= len(row["token_ids"]):
        raise DataFrameError(
            f"{where}: a closing text of {closing} tokens at {start} in {len(row['token_ids'])}"
        )


def _verdicts(grader: Grader, text: str, ends: Sequence[int], expected: str) -> _Verdicts:
    readings = readings_by_token(grader.readings(text), ends)
    turns: list[int] = []
    right = False
    for reading in readings:
        now_right = reading.value is not None and grader.agrees(reading.value, expected)
        if now_right != right:
            turns.append(reading.end)
            right = now_right
    return _Verdicts(tuple(turns), bool(readings) and readings[-1].value is not None)


def _changes(turns: Iterable[Sequence[int]]) -> Changes:
    flat = [
        (question, token, 1 - 2 * (place % 2))
        for question, members in enumerate(turns)
        for place, token in enumerate(members)
    ]
    columns = np.array(flat, dtype=np.int64).reshape(-1, 3)
    changes = Changes(columns[:, 0], columns[:, 1], columns[:, 2])
    return changes.at(changes.when)


def _integers(values: Iterable[int]) -> Integers:
    return np.fromiter(values, dtype=np.int64)


def _flags(values: Iterable[bool]) -> Flags:
    return np.fromiter(values, dtype=np.bool_)


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
