"""The user's texts and answers, made token ids by the model's own vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgequant.core.errors import DataFrameError, DataSetError
from edgequant.core.files import read_text
from edgequant.core.schemas import ANSWERS
from edgequant.core.tables import read_table, records
from edgequant.models.calibration import Calibration, Chat, chat_passage
from edgequant.models.model_file import ModelFile
from edgequant.models.vocabulary import Vocabulary
from edgequant.quality.overlap import refuse_overlap
from edgequant.quality.passages import UNCAPPED, Passage, Text, answers, windows


def load_texts(paths: Sequence[Path]) -> dict[str, str]:
    """Files of plain text, by their paths as given.

    Raises:
        DataSetError: a file cannot be read, or is no UTF-8.
    """
    return {str(path): read_text(path) for path in paths}


def load_answers(path: Path) -> list[dict[str, Any]]:
    """Rows of a run's ``answers.parquet``.

    Raises:
        DataFrameError: it is no such table.
    """
    return records(read_table(path, ANSWERS))


def cut_texts(texts: Mapping[str, str], vocabulary: Vocabulary, *, context: int) -> list[Text]:
    """Plain texts in windows.

    Args:
        texts: by their names.
        vocabulary: of the model.
        context: tokens of a window.

    Raises:
        DataSetError: a text is too short.
    """
    bos = next(iter(vocabulary.front), None)
    return [
        windows(name, vocabulary.tokenize(text, add_special=False), context=context, bos=bos)
        for name, text in texts.items()
    ]


def chats_text(
    chats: Sequence[Chat], vocabulary: Vocabulary, *, name: str, limit: int, answers_only: bool
) -> Text:
    """Questions with their answers, in the model's own chat form, each from an empty cache.

    Args:
        chats: the questions.
        vocabulary: of the model.
        name: as the table calls them.
        limit: at most so many tokens are read.
        answers_only: only the answers' tokens count, not the questions'.

    Raises:
        DataSetError: there is nothing to count.
        ConversionError: the model has no chat template.
    """
    found, room = [], limit
    for chat in chats:
        read = chat_passage(chat, vocabulary).cut(room)
        room -= len(read)
        counted = tuple(read.counted if answers_only else range(1, len(read)))
        if counted:
            found.append(Passage(read.tokens, counted))
        if room < 2:
            break
    if not found:
        raise DataSetError("has no answers", subject=name)
    return Text(name, tuple(found))


def answers_text(
    rows: Sequence[Mapping[str, Any]],
    reference: ModelFile,
    vocabulary: Vocabulary,
    *,
    whose: str | None,
    limit: int,
) -> Text:
    """The answers of the task.

    Args:
        rows: of the table of answers.
        reference: the 16-bit file, whose answers are taken.
        vocabulary: of the model.
        whose: the quantization whose answers are taken instead.
        limit: at most so many.

    Raises:
        DataFrameError: there are no such answers, or they are another tokenizer's.
    """
    own = [row for row in rows if row["strategy"] == UNCAPPED and _is_of(row, reference, whose)]
    if not own:
        there = ", ".join(sorted({row["quantization"] for row in rows})) or "none"
        raise DataFrameError(
            f"no uncropped answers of {whose or 'the reference'}: the table has those of {there}",
            next_step="name one of them with --answers-of, or add the reference to the experiment",
        )

    def tokenize(prompt: str) -> Sequence[int]:
        return vocabulary.tokenize(prompt, add_special=True)

    name = f"answers of {whose or 'the reference'}"
    return answers(own, name=name, tokenize=tokenize, limit=limit)


def _is_of(row: Mapping[str, Any], reference: ModelFile, whose: str | None) -> bool:
    if whose is not None:
        return bool(row["quantization"] == whose)
    return bool(row["model_sha256"] == reference.sha256)


def refuse_calibration(
    calibration: Calibration, texts: Sequence[Text], vocabulary: Vocabulary
) -> None:
    """Refuse to judge on what steps were calibrated on; raises as the next."""
    # Not the prompts, which have one system text.
    read = calibration.counted_passages(vocabulary)
    known = [passage.tokens[passage.first :] for passage in read]
    for text in texts:
        refuse_overlap(known, text.counted_runs, names=("of the steps", text.name))


def refuse_calibration_texts(
    calibration: Mapping[str, str], texts: Sequence[Text], vocabulary: Vocabulary
) -> None:
    """Refuse to judge on texts that a variant was calibrated on.

    Args:
        calibration: texts by their names.
        texts: to be judged on.
        vocabulary: of the model.

    Raises:
        DataSetError: two overlap.
    """
    for name, content in calibration.items():
        tokens = vocabulary.tokenize(content, add_special=False)
        for text in texts:
            refuse_overlap([tokens], text.counted_runs, names=(name, text.name))
