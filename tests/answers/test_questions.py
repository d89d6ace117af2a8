"""Question files: what GSM8K has is read, and a bad line is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.answers.questions import (
    Question,
    draw,
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
    assert load_questions(path, limit=2) == load_questions(path, limit=9) == [first, second]


def numbered(tmp_path: Path, numbers: list[int]) -> Path:
    return write(tmp_path, *(GOOD.replace("1 + 1?", f"{n} + 0?") for n in numbers))


def test_a_limit_draws_by_the_hash_of_the_text(tmp_path: Path) -> None:
    order = [*range(40)]
    texts = [q.question for q in load_questions(numbered(tmp_path, order))]
    drawn = load_questions(numbered(tmp_path, order), limit=10)
    smallest = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:10]
    assert {q.question for q in drawn} == set(smallest)
    assert [q.id for q in drawn] == sorted(q.id for q in drawn), "in the file's order"
    backwards = load_questions(numbered(tmp_path, order[::-1]), limit=10)
    assert [q.question for q in backwards] == [q.question for q in drawn][::-1]


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 30), st.integers(1, 30))
def test_a_smaller_draw_is_part_of_a_larger_one(texts: list[int], one: int, other: int) -> None:
    questions = [Question(f"{n:04d}", f"{text}?", "1", "") for n, text in enumerate(texts)]
    small, large = sorted((one, other))
    drawn = [q.id for q in draw(questions, large)]
    assert len(drawn) == min(large, len(questions))
    assert [q.id for q in draw(questions, small)] == [
        i for i in drawn if i in {q.id for q in draw(questions, small)}
    ]


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


ARC = {
    "id": "Mercury_7175875",
    "question": "Which gas do plants take in?",
    "choices": {"text": ["oxygen", "carbon dioxide", "helium"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
MMLU = {
    "question": "What is 2 + 2?",
    "subject": "elementary_mathematics",
    "choices": ["1", "2", "3", "4"],
    "answer": 3,
}


@pytest.mark.parametrize(
    ("row", "answer", "question"),
    [
        (ARC, "B", "Which gas do plants take in?\nA. oxygen\nB. carbon dioxide\nC. helium"),
        (
            {
                **ARC,
                "choices": {**ARC["choices"], "label": ["1", "2", "3"]},  # type: ignore[dict-item]
                "answerKey": "3",
            },
            "C",
            "Which gas do plants take in?\nA. oxygen\nB. carbon dioxide\nC. helium",
        ),
        (MMLU, "D", "What is 2 + 2?\nA. 1\nB. 2\nC. 3\nD. 4"),
        ({**MMLU, "answer": "C"}, "C", "What is 2 + 2?\nA. 1\nB. 2\nC. 3\nD. 4"),
        ({"question": "1 + 1?", "answer": "so\n#### 2"}, "2", "1 + 1?"),
    ],
    ids=["arc", "arc-numbered", "mmlu", "mmlu-letter", "gsm8k"],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_each_form_is_told_by_its_columns(
    tmp_path: Path, row: dict[str, object], answer: str, question: str, kind: str
) -> None:
    path = tmp_path / f"test.{kind}"
    if kind == "jsonl":
        path.write_text(json.dumps(row) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    (found,) = load_questions(path)
    assert (found.answer, found.question) == (answer, question)
    assert found.answer_kind == ("choice" if "choices" in row else "integer")
    assert found.choices == tuple(line[3:] for line in question.split("\n")[1:])
    (of_task,) = load_questions(path, task="arc")
    assert (of_task.id, of_task.task) == (f"arc-{found.id}", "arc")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"answerKey": "E"}, "'answerKey' is 'E', the labels are ['A', 'B', 'C']"),
        ({"answerKey": None}, "no text under 'answerKey'"),
        ({"choices": ["a", "b"]}, "no 'text' and 'label' under 'choices'"),
        ({"choices": {"text": ["a", "b"]}}, "no list of texts under 'label'"),
        ({"choices": {"text": ["a", "b"], "label": ["A"]}}, "1 choices under 'label'"),
        (
            {"choices": {"text": ["a", "b"], "label": ["A", "A"]}, "answerKey": "A"},
            "labels are ['A'",
        ),
        ({"choices": {"text": ["a", "b", "c"], "label": ["A", "B"]}}, "3 texts and 2 labels"),
        ({"question": ""}, "the question is empty"),
    ],
)
def test_a_bad_question_of_letters_names_its_line_and_key(
    tmp_path: Path, change: dict[str, object], cause: str
) -> None:
    path = write(tmp_path, json.dumps(ARC), json.dumps({**ARC, **change}))
    with pytest.raises(DataSetError) as caught:
        load_questions(path)
    assert "line 2: " in caught.value.cause
    assert cause in caught.value.cause


@pytest.mark.parametrize("answer", [4, -1, "E", "AB", True, 1.0, None, []])
def test_an_answer_that_is_none_of_the_choices_is_refused(tmp_path: Path, answer: object) -> None:
    path = write(tmp_path, json.dumps({**MMLU, "answer": answer}))
    with pytest.raises(DataSetError, match=r"line 1: 'answer' is .* from A to D"):
        load_questions(path)


def test_a_bad_row_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist([MMLU, {**MMLU, "answer": 9}]), path)
    with pytest.raises(DataSetError, match="row 2: 'answer' is 9"):
        load_questions(path)
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(DataSetError, match="as Parquet"):
        load_questions(path)


@pytest.mark.skipif(not GSM8K.is_file(), reason=f"GSM8K's test file is not at {GSM8K}")
def test_the_whole_of_gsm8k() -> None:
    questions = load_questions(GSM8K)
    assert len(questions) == 1319
    assert len({q.id for q in questions}) == 1319
    assert duplicates(questions) == []
    assert questions[0].answer == "18"
    assert questions[146].answer == "2125"
    assert questions[611].answer == "1450000"
