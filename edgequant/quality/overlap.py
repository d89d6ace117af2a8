"""Does a text that a model is judged on stand in one that it was calibrated on? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgequant.core.errors import DataSetError

NGRAM = 32
"""Tokens that have to be the same in a row. Shorter runs are shared by unrelated texts."""
ALLOWED_SHARE = 0.01


@dataclass(frozen=True)
class Overlap:
    """What two texts share.

    Attributes:
        share: of the test text's n-grams, those that stand in the calibration text, 0 to 1.
        first: the first run of tokens shared; empty where there is none.
    """

    share: float
    first: tuple[int, ...]


def find_overlap(
    calibration: Sequence[Sequence[int]], test: Sequence[Sequence[int]], *, ngram: int = NGRAM
) -> Overlap:
    """Compare the n-grams of two texts' tokens.

    Args:
        calibration: token ids, in one run or several; no n-gram reaches over a run's end.
        test: the same of the test text. A run shorter than an n-gram is compared as a whole.
        ngram: tokens of an n-gram.
    """
    sizes = {min(ngram, len(run)) for run in test if run}
    known = {gram for size in sizes for run in calibration for gram in _ngrams(run, size)}
    total = shared = 0
    first: tuple[int, ...] = ()
    for run in test:
        for gram in _ngrams(run, min(ngram, len(run))):
            total += 1
            if gram in known:
                shared += 1
                first = first or gram
    return Overlap(shared / total if total else 0.0, first)


def refuse_overlap(
    calibration: Sequence[Sequence[int]], test: Sequence[Sequence[int]], *, names: tuple[str, str]
) -> None:
    """Refuse to judge on what was calibrated on.

    Args:
        calibration: token ids of the calibration text.
        test: token ids of the test text.
        names: of the two, for the message.

    Raises:
        DataSetError: more than :data:`ALLOWED_SHARE` of the test text stands in the other.
    """
    found = find_overlap(calibration, test)
    if found.share > ALLOWED_SHARE:
        raise DataSetError(
            f"{found.share:.1%} of its runs of {min(NGRAM, len(found.first))} tokens stand in the "
            f"calibration text {names[0]}: a model does better on what it was calibrated on",
            subject=names[1],
            next_step="calibrate and judge on different texts",
        )


def _ngrams(run: Sequence[int], size: int) -> Iterator[tuple[int, ...]]:
    if size == 0:
        return
    for start in range(len(run) - size + 1):
        yield tuple(run[start : start + size])
