"""Answers under hard budgets: an uncapped greedy answer holds the answer of every smaller one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from edgequant.core.errors import DataFrameError
from edgequant.matching.graders.boxed import Grade, box_events_by_token, grade

GRID_RATIO = 1.12
"""Neighbouring budgets of the grid differ by about this factor."""

REQUIRED_COLUMNS: dict[str, str] = {
    "quantization": "text",
    "prompt": "text",
    "stated_budget": "whole numbers, null where the prompt states no budget",
    "question_id": "text",
    "expected_answer": "whole numbers",
    "token_ids": "lists of whole numbers",
    "token_texts": "lists of text",
    "text": "text",
    "stop_reason": "text",
    "prompt_tokens": "whole numbers",
}


@dataclass(frozen=True)
class AnswerGroup:
    """The answers of one quantization to one prompt, with its budget stated or not.

    Attributes:
        stated_budget: the budget that the prompt states, in tokens; None where it states none.
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
    stated_budget: int | None
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

    def correct(self, budgets: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Right or wrong under each hard budget in tokens; shape (n, len(budgets))."""
        wanted = np.asarray(budgets, dtype=np.int64)
        result = np.zeros((len(self.changes), len(wanted)), dtype=np.bool_)
        for row, changes in enumerate(self.changes):
            # Right after an odd number of changes.
            result[row] = np.searchsorted(changes, wanted, side="right") % 2 == 1
        return result


def budget_grid(longest: int, extra: Sequence[int] = ()) -> list[int]:
    """Budgets to evaluate, about evenly spaced in their logarithm, all whole tokens.

    Args:
        longest: tokens of the longest answer: larger budgets change nothing.
        extra: budgets to be there in any case.
    """
    grid = {1, *extra}
    value = 2.0
    while value < longest:
        grid.add(round(value))
        value = max(value + 1, value * GRID_RATIO)
    return sorted(grid)


def group_answers(answers: pl.DataFrame) -> list[AnswerGroup]:
    """Grade all answers, group by group.

    Args:
        answers: as ``generate`` writes them; see :data:`REQUIRED_COLUMNS`.

    Raises:
        DataFrameError: a column is missing or of another type, a group lacks questions that
            others have or has one twice, or an answer's tokens do not make up its text.
    """
    check_columns(answers)
    keys = ["quantization", "prompt", "stated_budget"]
    ordered = answers.sort([*keys, "question_id"], nulls_last=False)
    groups = [
        _grade_group(str(key[0]), str(key[1]), key[2], frame)
        for key, frame in ordered.group_by(keys, maintain_order=True)
    ]
    _check_same_questions(groups, ordered)
    return groups


def check_columns(answers: pl.DataFrame) -> None:
    """Name the first column that is missing, of a wrong type, or has holes.

    Raises:
        DataFrameError: as it says.
    """
    for name, kind in REQUIRED_COLUMNS.items():
        if name not in answers.columns:
            raise DataFrameError(
                f"the answers have no column {name!r} ({kind})",
                next_step="use an answers.parquet that edgequant wrote",
            )
        if not _type_fits(answers.schema[name], kind):
            raise DataFrameError(
                f"column {name!r} of the answers holds {answers.schema[name]}, not {kind}"
            )
        if name != "stated_budget" and answers[name].null_count():
            raise DataFrameError(f"column {name!r} of the answers has empty cells")
    if answers.is_empty():
        raise DataFrameError("the answers have no rows")


def _type_fits(dtype: pl.DataType, kind: str) -> bool:
    if isinstance(dtype, pl.List):
        inner = pl.Series(dtype=dtype).explode().dtype
        return kind.startswith("lists") and (
            inner == pl.Null
            or (inner == pl.String if kind.endswith("text") else inner.is_integer())
        )
    if kind.startswith("lists"):
        return False
    if kind == "text":
        return dtype == pl.String
    return dtype.is_integer() or (dtype == pl.Null and "null" in kind)


def _grade_group(
    quantization: str, prompt: str, stated_budget: object, frame: pl.DataFrame
) -> AnswerGroup:
    changes: list[tuple[int, ...]] = []
    grades: list[Grade] = []
    expected_answers: list[int] = []
    for row in frame.iter_rows(named=True):
        pieces, text = list(row["token_texts"]), row["text"]
        expected = row["expected_answer"]
        where = f"{quantization}, {prompt}, question {row['question_id']}"
        if len(pieces) != len(row["token_ids"]):
            raise DataFrameError(
                f"{where}: {len(pieces)} token_texts for {len(row['token_ids'])} token_ids"
            )
        changes.append(_changes(_cut_to_text(pieces, text, where), expected))
        grades.append(grade(text))
        expected_answers.append(expected)
    return AnswerGroup(
        quantization=quantization,
        prompt=prompt,
        stated_budget=stated_budget if isinstance(stated_budget, int) else None,
        question_ids=tuple(frame["question_id"].to_list()),
        changes=tuple(changes),
        tokens=frame["token_ids"].list.len().cast(pl.Int64).to_numpy(),
        boxed=np.asarray([g.has_box for g in grades], dtype=np.bool_),
        lenient=np.asarray(
            [g.lenient == e for g, e in zip(grades, expected_answers, strict=True)], dtype=np.bool_
        ),
        limited=(frame["stop_reason"] == "limit").to_numpy(),
        mean_prompt_tokens=float(np.mean(frame["prompt_tokens"].to_numpy())),
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


def _changes(pieces: list[str], expected: int) -> tuple[int, ...]:
    changes: list[int] = []
    was_right = False
    for event in box_events_by_token(pieces):
        is_right = event.value == expected
        if is_right != was_right:
            changes.append(event.end)
            was_right = is_right
    return tuple(changes)


def _check_same_questions(groups: list[AnswerGroup], answers: pl.DataFrame) -> None:
    every = tuple(answers["question_id"].unique().sort().to_list())
    for group in groups:
        if group.question_ids == every:
            continue
        name = (
            f"{group.quantization}, {group.prompt}, stated budget {group.stated_budget or 'none'}"
        )
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
    if (
        answers.group_by("question_id")
        .agg(pl.col("expected_answer").n_unique())["expected_answer"]
        .max()
        != 1
    ):
        raise DataFrameError("column 'expected_answer' differs between rows of one question")
