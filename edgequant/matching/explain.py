"""Where graders differ on the same answers, and why: checked before a score is trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import check_table, records
from edgequant.matching.graders.grader import Grader, last_value
from edgequant.matching.graders.registry import INTEGER, graders_for
from edgequant.matching.grading import question_of

if TYPE_CHECKING:
    import pandas as pd

ROWS = 40
"""How many differences are listed where nobody says otherwise."""

_READ_AT_ONCE = 1000
_COLUMNS = (
    "quantization",
    "prompt",
    "strategy",
    "budget_tokens",
    "question_id",
    "question_sha256",
    "token_texts",
    "text",
)


@dataclass(frozen=True)
class Difference:
    """One answer that some graders call right and others wrong.

    Attributes:
        budget_tokens: the budget that the model was told; None where it was told none.
        tokens: how many tokens of the answer were read; None: all.
        expected: the right answer.
        readings: grader to what it reads; None: nothing.
        right: the graders that call the answer right.
        reason: what the headline grader and those that differ from it read, in words.
    """

    question_id: str
    quantization: str
    prompt: str
    strategy: str
    budget_tokens: int | None
    tokens: int | None
    expected: str
    readings: Mapping[str, str | None]
    right: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Explained:
    """How far graders agree.

    Attributes:
        answers: how many were read.
        right: grader to how many of them it calls right, of those of its kind.
        reasons: why graders differ to how many answers, the most frequent first.
        differences: examples, every reason's first ones before any reason's later ones.
    """

    answers: int
    right: Mapping[str, int]
    reasons: Mapping[str, int]
    differences: tuple[Difference, ...]


def explain(
    answers: pd.DataFrame,
    questions: pd.DataFrame,
    tokens: int | None = None,
    rows: int = ROWS,
) -> Explained:
    """Read every answer with every grader of its kind.

    Args:
        answers: see :data:`edgequant.core.schemas.ANSWERS`.
        questions: see :data:`edgequant.core.schemas.QUESTIONS`.
        tokens: read only so many tokens of each answer, as a hard budget would leave them.
        rows: at most so many differences are listed; all are counted.

    Raises:
        DataFrameError: a column is missing or of another type, or an answer's question is not
            among the questions.
    """
    gold = {row["question_id"]: row for row in records(check_table(questions, QUESTIONS))}
    right: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    examples: dict[str, list[Difference]] = {}
    count = 0
    for row in _rows(answers):
        count += 1
        question = question_of(row, gold)
        graders = graders_for(question.get("answer_kind") or INTEGER)
        difference = _compare(row, str(question["expected_answer"]), graders, tokens)
        right.update(dict.fromkeys(graders, 0))
        right.update(difference.right)
        if 0 < len(difference.right) < len(graders):
            reasons[difference.reason] += 1
            kept = examples.setdefault(difference.reason, [])
            if len(kept) < rows:
                kept.append(difference)
    most = dict(reasons.most_common())
    in_turn = chain.from_iterable(zip_longest(*(examples[reason] for reason in most)))
    listed = [difference for difference in in_turn if difference is not None]
    return Explained(count, dict(right), most, tuple(listed[:rows]))


def _rows(answers: pd.DataFrame) -> Iterator[dict[str, Any]]:
    kept = check_table(answers, ANSWERS)[list(_COLUMNS)]
    # Some at a time: as Python objects the tokens of all of them would fill the memory.
    for start in range(0, len(kept), _READ_AT_ONCE):
        yield from records(kept.iloc[start : start + _READ_AT_ONCE])


def _compare(
    row: Mapping[str, Any], expected: str, graders: Mapping[str, Grader], tokens: int | None
) -> Difference:
    text = row["text"]
    if tokens is not None:
        text = text[: sum(map(len, row["token_texts"][:tokens]))]
    values = {name: last_value(grader.readings(text)) for name, grader in graders.items()}
    right = tuple(
        name
        for name, value in values.items()
        if value is not None and graders[name].agrees(value, expected)
    )
    return Difference(
        row["question_id"],
        row["quantization"],
        row["prompt"],
        row["strategy"],
        row["budget_tokens"],
        tokens if tokens is not None and tokens < len(row["token_texts"]) else None,
        expected,
        values,
        right,
        _reason(text, graders, right) if 0 < len(right) < len(graders) else "",
    )


def _reason(text: str, graders: Mapping[str, Grader], right: tuple[str, ...]) -> str:
    """What the headline grader reads, and those whose verdict is another one, in words."""
    first, *others = graders
    differing = [name for name in others if (name in right) != (first in right)]
    parts = [(name, graders[name].basis(text)) for name in (first, *differing)]
    return "; ".join(
        f"{name} ({'right' if name in right else 'wrong'}): {basis}" for name, basis in parts
    )
