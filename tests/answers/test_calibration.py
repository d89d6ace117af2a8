"""What models are calibrated on, read from texts and questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgequant.answers.calibration import load_calibration, load_chats, refuse_common_questions
from edgequant.answers.questions import load_questions
from edgequant.core.errors import DataSetError, PromptError

ROWS = [
    {"question": "One and one?", "answer": "1+1=2\n#### 2"},
    {"question": "Two and two?", "answer": "#### 4"},
]


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return path


def test_a_question_is_asked_in_the_prompt_with_its_worked_answer(questions: Path) -> None:
    first, second = load_chats(questions)
    assert [role for role, _ in first.turns] == ["system", "user"]
    assert "\\boxed{}" in first.turns[0][1]
    assert first.turns[1] == ("user", "One and one?")
    # The mark is the file's, not a model's.
    assert (first.answer, second.answer) == ("1+1=2", "")


def test_texts_and_questions_together(questions: Path, tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text("words")
    found = load_calibration([text], questions, tokens=99)
    assert (found.texts, len(found.chats), found.tokens) == (("words",), 2, 99)


def test_what_is_missing_is_named(questions: Path, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="cannot be read: No such file"):
        load_calibration([tmp_path / "gone.txt"])
    with pytest.raises(PromptError, match="no prompt 'gone'"):
        load_calibration(questions=questions, prompt="gone")
    with pytest.raises(DataSetError, match="nothing to calibrate on"):
        load_calibration()


def test_questions_that_are_asked_are_not_calibrated_on(questions: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"question": "Three?", "answer": "#### 3"}))
    refuse_common_questions(other, load_questions(questions))
    other.write_text(json.dumps(ROWS[1]))
    with pytest.raises(DataSetError, match=r"1 of the questions are those .* calibrated on"):
        refuse_common_questions(other, load_questions(questions))
