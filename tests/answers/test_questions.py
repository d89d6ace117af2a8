"""Question files: what GSM8K has is read, and a bad line is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.answers.questions import (
    duplicates,
    load_questions,
    parse_answer,
    questions_sha256,
)
from edgequant.core.errors import DataSetError

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl"
GOOD = json.dumps({"question": "What is 1 + 1?", "answer": "1 + 1 = 2\n#### 2"})


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    return path


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 2", 2),
        ("worked out\n#### 1,450,000", 1_450_000),
        ("#### -5", -5),
        ("#### −5", -5),
        ("#### $1,200", 1200),
        ("#### 18.00", 18),
        ("####7  ", 7),
        ("#### 1 is not it\n#### 2", 2),
    ],
)
def test_answers(text: str, number: int) -> None:
    assert parse_answer(text) == number


@pytest.mark.parametrize(
    "text", ["42", "#### ", "#### 1.5", "#### 1,45", "#### five", "#### 1/2", "#### 2 apples"]
)
def test_what_is_no_integer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="####"):
        parse_answer(text)


@given(st.integers(min_value=-(10**15), max_value=10**15), st.booleans())
def test_every_integer_is_read_back(number: int, commas: bool) -> None:
    written = f"{number:,}" if commas else str(number)
    assert parse_answer(f"so it is\n#### {written}") == number


def test_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, "", GOOD.replace("1 + 1?", "2 + 0?"))
    first, second = load_questions(path)
    assert (first.question, first.answer) == ("What is 1 + 1?", "2")
    assert first.raw_answer == "1 + 1 = 2\n#### 2"
    assert first.id.startswith("0001-")
    assert second.id.startswith("0003-"), "ids name the file's lines, blank ones counted"
    assert load_questions(path, limit=1) == [first]


def test_the_id_follows_the_text_of_the_question(tmp_path: Path) -> None:
    (before,) = load_questions(write(tmp_path, GOOD))
    (after,) = load_questions(write(tmp_path, GOOD.replace("1 + 1?", "1 + 1!")))
    assert before.id != after.id
    assert questions_sha256([before]) != questions_sha256([after])


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("{", "not JSON"),
        ("\udcff", "not UTF-8"),
        ("[1]", "not a JSON object"),
        ('{"question": "a"}', "'answer'"),
        ('{"question": 3, "answer": "#### 1"}', "'question'"),
        ('{"question": " ", "answer": "#### 1"}', "empty"),
        ('{"question": "a", "answer": "1"}', "####"),
        ('{"question": "a", "answer": "#### 1.5"}', "not an integer"),
        ('{"question": "a", "answer": "#### 99999999999999999999"}', "too large"),
        ('{"question": "\\ud800", "answer": "#### 1"}', "broken character"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, cause: str) -> None:
    path = write(tmp_path, GOOD, line, GOOD)
    with pytest.raises(DataSetError) as caught:
        load_questions(path)
    assert "line 2: " in caught.value.cause
    assert cause in caught.value.cause
    assert caught.value.subject == str(path)
    assert caught.value.next_step is not None


def test_a_bad_line_behind_the_limit_does_not_matter(tmp_path: Path) -> None:
    assert len(load_questions(write(tmp_path, GOOD, "{"), limit=1)) == 1


def test_an_empty_file_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no questions"):
        load_questions(write(tmp_path, "", " "))
    with pytest.raises(DataSetError, match="cannot be read"):
        load_questions(tmp_path / "absent.jsonl")
    with pytest.raises(DataSetError, match="cannot be read"):
        load_questions(tmp_path)


def test_duplicates_are_noted_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = load_questions(write(tmp_path, GOOD, GOOD))
    assert len(questions) == 2
    assert duplicates(questions) == [(questions[0], questions[1])]
    assert "more than once" in capsys.readouterr().err


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"GSM8K's test file is not at {GSM8K}")
def test_the_whole_of_gsm8k() -> None:
    questions = load_questions(GSM8K)
    assert len(questions) == 1319
    assert len({q.id for q in questions}) == 1319
    assert duplicates(questions) == []
    assert questions[0].answer == "18"
    assert questions[146].answer == "2125"
    assert questions[611].answer == "1450000"
