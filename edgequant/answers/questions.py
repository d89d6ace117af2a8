"""Question files: GSM8K's JSONL, each line a question and an answer that ends in ``#### N``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgequant.core.errors import DataSetError
from edgequant.core.hashing import sha256_json
from edgequant.core.json_file import parse_json
from edgequant.core.progress import say

ANSWER_MARK = "####"
LARGEST = 2**63
AnswerKind = Literal["integer", "choice"]
MAX_LINE_BYTES = 1 << 20
MAX_ANSWER_LENGTH = 100
# Commas must stand where thousands are divided: "1,45" is a typing error, not 145.
_INTEGER = re.compile(r"[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.0+)?")


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its one right answer."""

    id: str
    """Line number and the first 8 hex digits of the question's SHA-256: ``0001-1a2b3c4d``."""
    question: str
    answer: str
    """As a grader reads it: ``72``, ``-3``, ``B``."""
    raw_answer: str
    """The worked solution as the file has it."""
    answer_kind: AnswerKind = "integer"
    task: str | None = None
    """What it belongs to, where an experiment has several tasks."""

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of the question's text."""
        return _text_sha256(self.question)


def load_questions(path: Path, limit: int | None = None) -> list[Question]:
    """Read a question file; questions asked twice are noted on stderr and kept.

    Args:
        path: a JSONL file; lines of white space alone are skipped.
        limit: read so many questions from the start, by default all.

    Raises:
        DataSetError: no such file, a bad line (named by its number), or no question at all.
    """
    questions: list[Question] = []
    try:
        with path.open("rb") as stream:
            lines = iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b"")
            for number, line in enumerate(lines, start=1):
                if limit is not None and len(questions) >= limit:
                    break
                if line.strip():
                    questions.append(_parse_line(line, number, path))
    except OSError as error:
        raise DataSetError(
            f"cannot be read: {error.strerror}",
            subject=path,
            next_step="give a JSONL file with a question and an answer on each line",
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
    return questions


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


def _parse_line(line: bytes, number: int, path: Path) -> Question:
    def bad(cause: str) -> DataSetError:
        return DataSetError(
            f"line {number}: {cause}",
            subject=path,
            next_step=f'correct line {number}; each is {{"question": ..., "answer": "... #### N"}}',
        )

    if len(line) > MAX_LINE_BYTES:
        raise bad(f"has more than {MAX_LINE_BYTES} bytes")
    try:
        value = parse_json(line)
    except ValueError as error:
        raise bad(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise bad("not a JSON object")
    for key in ("question", "answer"):
        if not isinstance(value.get(key), str):
            raise bad(f"no text under {key!r}")
    question, raw_answer = value["question"], value["answer"]
    if not question.strip():
        raise bad("the question is empty")
    try:
        # JSON's escapes can smuggle in half a character, which no tokenizer can read.
        question.encode()
        answer = parse_answer(raw_answer)
    except UnicodeEncodeError:
        raise bad("the question has a broken character (half of a surrogate pair)") from None
    except ValueError as error:
        raise bad(str(error)) from None
    identity = f"{number:04d}-{_text_sha256(question)[:8]}"
    return Question(id=identity, question=question, answer=str(answer), raw_answer=raw_answer)


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
