"""Question files: GSM8K, and tasks of letters like ARC and MMLU; from JSONL or the hub's Parquet.

Which form a file has, its columns tell:

- GSM8K: ``question``, ``answer`` that ends in ``#### N``;
- ARC: ``question``, ``choices`` with ``text`` and ``label`` side by side, ``answerKey`` (a label);
- MMLU: ``question``, ``choices`` as a list, ``answer`` as a number from 0 on or as a letter.
"""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from edgequant.core.errors import DataSetError
from edgequant.core.hashing import sha256_json
from edgequant.core.json_file import parse_json
from edgequant.core.progress import say

ANSWER_MARK = "####"
LARGEST = 2**63
AnswerKind = Literal["integer", "choice"]
LETTERS = ascii_uppercase
MAX_LINE_BYTES = 1 << 20
MAX_ANSWER_LENGTH = 100
MAX_FAMILY_LENGTH = 80
COLUMNS = ("question", "answer", "choices", "answerKey")
# Commas must stand where thousands are divided: "1,45" is a typing error, not 145.
_INTEGER = re.compile(r"[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.0+)?")


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its one right answer."""

    id: str
    """Its place in the file and the first 8 hex digits of its SHA-256, ``0001-1a2b3c4d``; with
    the task's name before them, where it has one."""
    question: str
    """All that is asked: what there is to choose from stands in it, a letter before each."""
    answer: str
    """As a grader reads it: ``72``, ``-3``, ``B``."""
    raw_answer: str
    """The worked solution as the file has it."""
    answer_kind: AnswerKind = "integer"
    task: str | None = None
    """What it belongs to, where an experiment has several tasks."""
    stem: str = ""
    """The question without its choices; empty where it has none."""
    choices: tuple[str, ...] = ()
    """What there is to choose from: A, B, C and so on."""
    family: str | None = None
    """What kind of question it is, where its file says so."""

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the question's text."""
        return _text_sha256(self.question)


def load_questions(path: Path, limit: int | None = None, task: str | None = None) -> list[Question]:
    """Read a question file; questions asked twice are noted on stderr and kept.

    Args:
        path: a JSONL file, of which lines of white space alone are skipped, or a ``.parquet``.
        limit: draw so many questions, by default all: see :func:`draw`.
        task: what the questions belong to, where there are several tasks.

    Raises:
        DataSetError: no such file, a bad line (named by its number), or no question at all.
    """
    read, place = (_parquet, "row") if path.suffix == ".parquet" else (_json_lines, "line")
    try:
        questions = [_question(row, f"{place} {n}", n, path, task) for n, row in read(path)]
    except OSError as error:
        raise DataSetError(
            f"cannot be read: {error.strerror or error}",
            subject=path,
            next_step="give a JSONL or Parquet file with questions and right answers",
        ) from error
    if not questions:
        raise DataSetError("has no questions", subject=path)
    twice = duplicates(questions)
    if twice:
        first, second = twice[0]
        say(
            f"{path}: {len(twice)} question(s) stand there more than once, "
            f"e.g. {first.id} and {second.id}; each is counted each time"
        )
    return draw(questions, limit)


def draw(questions: list[Question], limit: int | None) -> list[Question]:
    """Some of the questions, in their order: those whose texts have the smallest SHA-256.

    Such a draw does not follow the file's order, which may run from easy to hard; it is the same
    everywhere, and a smaller one is part of a larger one.
    """
    if limit is None or limit >= len(questions):
        return questions
    places = sorted(range(len(questions)), key=lambda place: (questions[place].sha256, place))
    return [questions[place] for place in sorted(places[:limit])]


def duplicates(questions: Iterable[Question]) -> list[tuple[Question, Question]]:
    """Pairs (first, later) of questions with the same text."""
    first: dict[str, Question] = {}
    return [(first[q.question], q) for q in questions if first.setdefault(q.question, q) is not q]


def questions_sha256(questions: Iterable[Question]) -> str:
    """Hex SHA-256 over ids and texts, in their order: of what is asked, not of what is right."""
    return sha256_json([[q.id, q.question] for q in questions])


def parse_answer(text: str) -> int:
    """The integer after the last ``####``.

    Raises:
        ValueError: no mark, or something else than an integer behind it.
    """
    _, mark, behind = text.rpartition(ANSWER_MARK)
    if not mark:
        raise ValueError(f'the answer has no "{ANSWER_MARK} N"')
    number = behind.strip()
    if len(number) > MAX_ANSWER_LENGTH:
        raise ValueError(f'{len(number)} characters after "{ANSWER_MARK}" are no answer')
    if not _INTEGER.fullmatch(number):
        raise ValueError(f'{number!r} after "{ANSWER_MARK}" is not an integer')
    plain = number.replace("−", "-").replace("$", "").replace(",", "")
    value = int(plain.partition(".")[0])
    if abs(value) >= LARGEST:
        raise ValueError(f"{number!r} is too large: tables keep 64-bit integers")
    return value


# Files ----------------------------------------------------------------------------------------


def _json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open("rb") as stream:
        lines = iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b"")
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise _bad(path, where, f"has more than {MAX_LINE_BYTES} bytes")
            try:
                value = parse_json(line)
            except ValueError as error:
                raise _bad(path, where, f"not JSON ({error})") from None
            if not isinstance(value, dict):
                raise _bad(path, where, "not a JSON object")
            yield number, value


def _parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            kept = [name for name in COLUMNS if name in file.schema_arrow.names]
            number = 0
            for batch in file.iter_batches(columns=kept):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataSetError(
            f"cannot be read as Parquet: {error}",
            subject=path,
            next_step="take the file as the hub has it, or a JSONL file",
        ) from error


def _bad(path: Path, where: str, cause: str) -> DataSetError:
    return DataSetError(
        f"{where}: {cause}",
        subject=path,
        next_step=f"correct {where}; what each has to hold stands in docs/experiments.md",
    )


# Rows -----------------------------------------------------------------------------------------


def _question(
    row: Mapping[str, Any], where: str, number: int, path: Path, task: str | None
) -> Question:
    try:
        stem = _text(row, "question")
        choices: tuple[str, ...] = ()
        if "choices" in row:
            choices, raw_answer, answer = _letters(row)
        else:
            raw_answer = _text(row, "answer", may_be_empty=True)
            answer = str(parse_answer(raw_answer))
        lettered = zip(LETTERS, choices, strict=False)
        question = "\n".join([stem, *(f"{letter}. {text}" for letter, text in lettered)])
        # JSON's escapes can smuggle in half a character, which no tokenizer can read.
        question.encode()
    except UnicodeEncodeError:
        cause = "the question has a broken character (half of a surrogate pair)"
        raise _bad(path, where, cause) from None
    except ValueError as error:
        raise _bad(path, where, str(error)) from None
    identity = f"{number:04d}-{_text_sha256(question)[:8]}"
    return Question(
        id=identity if task is None else f"{task}-{identity}",
        question=question,
        answer=answer,
        raw_answer=raw_answer,
        answer_kind="choice" if choices else "integer",
        task=task,
        stem=stem if choices else "",
        choices=choices,
        family=_family(row),
    )


def _family(row: Mapping[str, Any]) -> str | None:
    """What a file calls the kind of a question; a note, so whatever else stands there is let be."""
    found = row.get("family")
    return found if isinstance(found, str) and 0 < len(found) <= MAX_FAMILY_LENGTH else None


def _letters(row: Mapping[str, Any]) -> tuple[tuple[str, ...], str, str]:
    """Choices, the answer as the file has it, and its letter."""
    if "answerKey" in row:
        choices = row["choices"]
        if not isinstance(choices, dict):
            raise ValueError("no 'text' and 'label' under 'choices'")
        texts, labels = _texts(choices, "text"), _texts(choices, "label")
        if len(labels) != len(texts):
            raise ValueError(f"'choices' has {len(texts)} texts and {len(labels)} labels")
        # Some questions number their choices instead: what counts is which one it is.
        key = _text(row, "answerKey")
        if labels.count(key) != 1:
            labelled = reprlib.repr(list(labels))
            raise ValueError(f"'answerKey' is {reprlib.repr(key)}, the labels are {labelled}")
        return texts, key, LETTERS[labels.index(key)]
    texts, answer = _texts(row, "choices"), row.get("answer")
    letters = LETTERS[: len(texts)]
    if isinstance(answer, str) and len(answer) == 1 and answer in letters:
        return texts, answer, answer
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        return texts, str(answer), letters[answer]
    raise ValueError(
        f"'answer' is {reprlib.repr(answer)}, neither a number from 0 to {len(texts) - 1} nor a "
        f"letter from A to {letters[-1]}"
    )


def _text(row: Mapping[str, Any], key: str, *, may_be_empty: bool = False) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"no text under {key!r}")
    if not value.strip() and not may_be_empty:
        raise ValueError(f"the {key} is empty")
    return value


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError(f"no list of texts under {key!r}")
    if not 2 <= len(value) <= len(LETTERS):
        raise ValueError(f"{len(value)} choices under {key!r}, not 2 to {len(LETTERS)}")
    return tuple(value)


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
