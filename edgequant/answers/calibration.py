"""What variants are calibrated on, read from a user's files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from edgequant.answers.prompts import load_prompt, render
from edgequant.answers.questions import ANSWER_MARK, Question, load_questions
from edgequant.core.errors import DataSetError
from edgequant.core.files import read_text
from edgequant.models.calibration import DEFAULT_TOKENS, Calibration, Chat

DEFAULT_PROMPT = "cot"


def load_calibration(
    texts: Sequence[Path] = (),
    questions: Path | None = None,
    *,
    prompt: str = DEFAULT_PROMPT,
    tokens: int = DEFAULT_TOKENS,
) -> Calibration:
    """Read what a model is calibrated on.

    Args:
        texts: files of plain text, in UTF-8.
        questions: a question file; each is asked in the prompt, with its worked answer behind it.
        prompt: name or path of a prompt.
        tokens: at most so many are read.

    Raises:
        DataSetError: a file is missing or wrong, or nothing is given.
        PromptError: there is no such prompt.
    """
    contents = tuple(read_text(path) for path in texts)
    chats = load_chats(questions, prompt=prompt) if questions is not None else ()
    return Calibration(contents, chats, tokens)


def load_chats(questions: Path, *, prompt: str = DEFAULT_PROMPT) -> tuple[Chat, ...]:
    """The questions of a file, each asked in a prompt, with its worked answer behind it.

    The mark before the last number (``#### 72``) is the file's, not a model's: it is left out.

    Raises:
        DataSetError: the file is missing or wrong.
        PromptError: there is no such prompt.
    """
    how = load_prompt(prompt)
    return tuple(
        Chat(tuple((m["role"], m["content"]) for m in render(how, question)), _worked(question))
        for question in load_questions(questions)
    )


def refuse_common_questions(calibrated: Path, asked: Iterable[Question]) -> None:
    """Refuse to ask what a model was calibrated on.

    Raises:
        DataSetError: a question stands in both.
    """
    known = {question.sha256 for question in load_questions(calibrated)}
    common = [question.id for question in asked if question.sha256 in known]
    if common:
        raise DataSetError(
            f"{len(common)} of the questions are those that the model is calibrated on, e.g. "
            f"{common[0]}: a model does better on what it was calibrated on",
            subject=calibrated,
            next_step="calibrate on other questions than those asked",
        )


def _worked(question: Question) -> str:
    before, mark, _ = question.raw_answer.rpartition(ANSWER_MARK)
    return before.rstrip() if mark else question.raw_answer
