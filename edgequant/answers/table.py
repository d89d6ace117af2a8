"""The artefact "answers": raw tokens in Parquet, never rewritten, graded by a pass of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.answers.questions import Question, load_questions
from edgequant.core.artefact import Artefact
from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import make_table, read_table

if TYPE_CHECKING:
    import pandas as pd

ANSWERS_NAME = ANSWERS.file
REFERENCE_NAME = "reference.parquet"
"""Of an artefact from a fast mode: the answers of the reference mode to some of the questions."""
FORMAT = 3
"""Raised when the table changes; the answers themselves are kept apart, and stay."""


@dataclass(frozen=True)
class Answers:
    """All answers of one experiment."""

    artefact: Artefact

    @property
    def path(self) -> Path:
        """The Parquet file."""
        return self.artefact.file(ANSWERS_NAME)

    def frame(self) -> pd.DataFrame:
        """One row for each quantization, prompt, strategy, told budget and question.

        The columns stand in :data:`edgequant.core.schemas.ANSWERS`.
        """
        return self._frame

    @cached_property
    def reference(self) -> pd.DataFrame | None:
        """The same questions, as far as they were asked in reference mode, too; columns as above.

        None where all were asked in no other mode.
        """
        if REFERENCE_NAME not in self.artefact.manifest.files:
            return None
        return read_table(self.artefact.file(REFERENCE_NAME), ANSWERS)

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return read_table(self.path, ANSWERS)


def questions_table(questions: Sequence[Question]) -> pd.DataFrame:
    """Questions with their right answers, as :data:`edgequant.core.schemas.QUESTIONS` has them."""
    return make_table(
        (
            {
                "question_id": q.id,
                "question_sha256": q.sha256,
                "question": q.question,
                "expected_answer": q.answer,
                "answer_kind": q.answer_kind,
                "task": q.task,
                "family": q.family,
            }
            for q in questions
        ),
        QUESTIONS,
    )


def read_questions_table(path: Path) -> pd.DataFrame:
    """Questions from a run folder's ``questions.parquet``, or from a JSONL file.

    Raises:
        DataFrameError: a Parquet file that cannot be read, or lacks a column.
        DataSetError: a JSONL file that cannot be read, or has a bad line.
    """
    if path.suffix == ".parquet":
        return read_table(path, QUESTIONS)
    return questions_table(load_questions(path))
