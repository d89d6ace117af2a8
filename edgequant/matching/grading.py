"""Grade one configuration's answers: what the first tokens of each say, right or wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from edgequant.answers.loops import find_loop
from edgequant.core.errors import DataFrameError
from edgequant.core.tables import records
from edgequant.matching.cuts import AnswerGroup, Changes, Flags, Integers
from edgequant.matching.graders.grader import Grader, readings_by_token
from edgequant.matching.graders.registry import INTEGER, by_role

if TYPE_CHECKING:
    import pandas as pd

Key = tuple[str, str, str, int | None]
"""Quantization, prompt, strategy, the strategy's budget."""
Gold = Mapping[str, Mapping[str, Any]]
"""The row of each question by its id."""
GRADED = (
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
"""Columns of answers that grading looks at."""


@dataclass(frozen=True)
class Ungraded:
    """One configuration's answers.

    Attributes:
        key: which one.
        frame: its rows, with the columns of :data:`GRADED`.
    """

    key: Key
    frame: pd.DataFrame


def grade(answers: Ungraded, gold: Gold, graders: Collection[str] | None) -> AnswerGroup:
    """Grade one configuration; raises as :func:`edgequant.matching.groups.group_answers`."""
    key = answers.key
    rows = records(answers.frame.sort_values("question_id"))
    asked = [question_of(row, gold) for row in rows]
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
    return list(accumulate(map(len, pieces)))


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
    readings = readings_by_token(grader.readings(text, expected), ends)
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


def question_of(row: Mapping[str, Any], gold: Gold) -> Mapping[str, Any]:
    """The question that an answer is to.

    Raises:
        DataFrameError: it is not among the questions, or is another one there.
    """
    found = gold.get(row["question_id"])
    if found is None or found["question_sha256"] != row["question_sha256"]:
        problem = "is not among the questions" if found is None else "is another one there"
        raise DataFrameError(
            f"question {row['question_id']} of the answers {problem}",
            next_step="give the questions that these answers were generated from",
        )
    return found
