"""Answers graded at every length: what the first tokens of each say, right or wrong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgequant.answers.strategies.registry import base_name, strategies, strategy_named
from edgequant.answers.strategies.strategy import Outcome
from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import check_table, records
from edgequant.matching.graders.boxed import BoxEvent, Grade, box_events, box_events_by_token, grade

if TYPE_CHECKING:
    import pandas as pd

_Key = tuple[str, str, str, int | None]
"""Quantization, prompt, strategy, told budget."""
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
)


@dataclass(frozen=True)
class AnswerGroup:
    """The answers of one quantization to one prompt, asked in one way.

    Attributes:
        strategy: name of the strategy that asked.
        budget_tokens: the budget that the model was told; None where it was told none.
        question_ids: n questions, sorted; the same in every group.
        changes: for each question, the token counts at which right or wrong changes, starting
            from wrong: ``[20, 35]`` is right from 20 tokens on and wrong again from 35 on.
        tokens: generated tokens of each answer, shape (n,).
        boxed: the whole text holds a whole box, shape (n,).
        lenient: right by the box or, without one, by the fallbacks; whole texts, shape (n,).
        limited: the answer was cut off by the limit it was generated with, shape (n,).
        mean_prompt_tokens: over the questions.
    """

    quantization: str
    prompt: str
    strategy: str
    budget_tokens: int | None
    question_ids: tuple[str, ...]
    changes: tuple[tuple[int, ...], ...]
    tokens: npt.NDArray[np.int64]
    boxed: npt.NDArray[np.bool_]
    lenient: npt.NDArray[np.bool_]
    limited: npt.NDArray[np.bool_]
    mean_prompt_tokens: float

    @property
    def longest(self) -> int:
        """Tokens of the longest answer: what "no limit" came to."""
        return int(self.tokens.max())

    def outcomes(self, budgets: Sequence[int]) -> list[Outcome]:
        """What the group gives under each budget, as its strategy says."""
        kind = strategy_named(self.strategy)
        return kind.outcomes(self.budget_tokens, self.longest, budgets)

    def correct(self, budgets: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Right or wrong under each hard budget in tokens; shape (n, len(budgets))."""
        # Right after an odd number of changes.
        right = [[bisect_right(changes, b) % 2 == 1 for b in budgets] for changes in self.changes]
        return np.array(right, dtype=np.bool_).reshape(len(self.changes), len(budgets))


def group_answers(answers: pd.DataFrame, questions: pd.DataFrame) -> list[AnswerGroup]:
    """Grade all answers, group by group.

    Args:
        answers: as ``generate`` writes them; see :data:`edgequant.core.schemas.ANSWERS`.
        questions: with the right answers; see :data:`edgequant.core.schemas.QUESTIONS`. Questions
            that nobody answered are passed over.

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
    groups = [
        _grade_group(key, records(frames[key].sort_values("question_id")), gold) for key in keys
    ]
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


def _expected(row: Mapping[str, Any], gold: Mapping[str, Mapping[str, Any]]) -> int:
    found = gold.get(row["question_id"])
    if found is None or found["question_sha256"] != row["question_sha256"]:
        problem = "is not among the questions" if found is None else "is another one there"
        raise DataFrameError(
            f"question {row['question_id']} of the answers {problem}",
            next_step="give the questions that these answers were generated from",
        )
    try:
        return int(found["expected_answer"])
    except ValueError as error:
        raise DataFrameError(
            f"question {row['question_id']}: {found['expected_answer']!r} is no whole number"
        ) from error


def _grade_group(
    key: _Key, rows: Sequence[Mapping[str, Any]], gold: Mapping[str, Mapping[str, Any]]
) -> AnswerGroup:
    changes: list[tuple[int, ...]] = []
    grades: list[Grade] = []
    expected_answers: list[int] = []
    for row in rows:
        pieces, text = row["token_texts"], row["text"]
        expected = _expected(row, gold)
        where = f"{key[0]}, {key[1]}, question {row['question_id']}"
        if len(pieces) != len(row["token_ids"]):
            raise DataFrameError(
                f"{where}: {len(pieces)} token_texts for {len(row['token_ids'])} token_ids"
            )
        cut, events = _cut_to_text(pieces, text, where), box_events(text)
        changes.append(_changes(box_events_by_token(cut, events), expected))
        grades.append(grade(text, events))
        expected_answers.append(expected)
    return AnswerGroup(
        *key,
        question_ids=tuple(row["question_id"] for row in rows),
        changes=tuple(changes),
        tokens=np.array([len(row["token_ids"]) for row in rows], dtype=np.int64),
        boxed=np.asarray([g.has_box for g in grades], dtype=np.bool_),
        lenient=np.asarray(
            [g.lenient == e for g, e in zip(grades, expected_answers, strict=True)], dtype=np.bool_
        ),
        limited=np.array([row["stop_reason"] == "limit" for row in rows], dtype=np.bool_),
        mean_prompt_tokens=float(np.mean([row["prompt_tokens"] for row in rows])),
    )


def _cut_to_text(pieces: list[str], text: str, where: str) -> list[str]:
    """The tokens' texts without what a stop text cut off behind the answer."""
    joined = "".join(pieces)
    if joined == text:
        return pieces
    if not joined.startswith(text):
        raise DataFrameError(f"{where}: the token_texts joined are not the text")
    left, cut = len(text), []
    for piece in pieces:
        cut.append(piece[: max(left, 0)])
        left -= len(piece)
    return cut


def _changes(events: Sequence[BoxEvent], expected: int) -> tuple[int, ...]:
    changes: list[int] = []
    was_right = False
    for event in events:
        is_right = event.value == expected
        if is_right != was_right:
            changes.append(event.end)
            was_right = is_right
    return tuple(changes)


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
