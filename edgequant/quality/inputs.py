"""The user's texts and answers, made token ids by the model's own vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgequant.core.errors import DataFrameError, DataSetError
from edgequant.core.schemas import ANSWERS
from edgequant.core.tables import read_table, records
from edgequant.models.model_file import ModelFile
from edgequant.models.vocabulary import Vocabulary
from edgequant.quality.overlap import refuse_overlap
from edgequant.quality.passages import UNCAPPED, Text, answers, windows


def read_texts(paths: Sequence[Path], vocabulary: Vocabulary, *, context: int) -> list[Text]:
    """Files of plain text in windows.

    Args:
        paths: UTF-8 files.
        vocabulary: of the model.
        context: tokens of a window.

    Raises:
        DataSetError: a file cannot be read, is no text, or is too short.
    """
    # What the model wants around a text: all that tokenizing nothing gives.
    front = vocabulary.tokenize("", add_special=True)
    bos = front[0] if front else None
    return [
        windows(str(path), _token_ids(path, vocabulary), context=context, bos=bos) for path in paths
    ]


def read_answers(
    path: Path, reference: ModelFile, vocabulary: Vocabulary, *, whose: str | None, limit: int
) -> Text:
    """The answers of the task.

    Args:
        path: ``answers.parquet`` of a run.
        reference: the 16-bit file, whose answers are taken.
        vocabulary: of the model.
        whose: the quantization whose answers are taken instead.
        limit: at most so many.

    Raises:
        DataFrameError: it is no such table, or holds no such answers.
    """
    rows = records(read_table(path, ANSWERS))
    own = [row for row in rows if row["strategy"] == UNCAPPED and _is_of(row, reference, whose)]
    if not own:
        there = ", ".join(sorted({row["quantization"] for row in rows})) or "no answers at all"
        raise DataFrameError(
            f"no uncropped answers of {whose or 'the reference'}; it has {there}",
            subject=path,
            next_step="name one of them with --answers-of, or add the reference to the experiment",
        )

    def tokenize(prompt: str) -> Sequence[int]:
        return vocabulary.tokenize(prompt, add_special=True)

    name = f"answers of {whose or 'the reference'}"
    return answers(own, name=name, tokenize=tokenize, limit=limit)


def _is_of(row: dict[str, Any], reference: ModelFile, whose: str | None) -> bool:
    if whose is not None:
        return bool(row["quantization"] == whose)
    return bool(row["model_sha256"] == reference.sha256)


def refuse_calibration_texts(
    paths: Sequence[Path], texts: Sequence[Text], vocabulary: Vocabulary
) -> None:
    """Refuse to judge on texts that a variant was calibrated on.

    Raises:
        DataSetError: two overlap; or as :func:`read_texts`.
    """
    for path in paths:
        calibration = [_token_ids(path, vocabulary)]
        for text in texts:
            refuse_overlap(calibration, text.counted_runs, names=(str(path), text.name))


def _token_ids(path: Path, vocabulary: Vocabulary) -> tuple[int, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise DataSetError(f"cannot be read as UTF-8 text: {error}", subject=path) from error
    return vocabulary.tokenize(text, add_special=False)
