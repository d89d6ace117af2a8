"""Loops: where an answer begins to repeat itself for good, as models of few bits do.

What counts as a loop is a stretch of tokens that repeats one block: at least four times over, and
at least 48 tokens long, so that digits, rules of a table and sums of equal terms are none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

REPEATS = 4
MIN_TOKENS = 48

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop in a sequence of tokens.

    Attributes:
        start: place of the first token of the first repetition.
        detected_at: the loop is sure once so many tokens of the sequence are there.
        period: tokens of the block that repeats.
    """

    start: int
    detected_at: int
    period: int


def find_loop(
    token_ids: Sequence[int], *, repeats: int = REPEATS, min_tokens: int = MIN_TOKENS
) -> Loop | None:
    """The loop that can be told first, reading from the left; of several, the shortest block.

    Whoever reads the tokens one by one finds the same: what comes behind ``detected_at`` does
    not matter.

    Args:
        token_ids: the tokens of an answer.
        repeats: so often the block stands there at least, in a row; 2 or more.
        min_tokens: so long is the stretch at least.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    if len(ids) < max(repeats, min_tokens) or not _repeats_anything(ids, min_tokens // 2):
        return None
    found: Loop | None = None
    for period in range(1, len(ids) // repeats + 1):
        # What was found bounds what is looked at: a later loop is of no interest.
        known = ids if found is None else ids[: found.detected_at - 1]
        length = max(period * repeats, min_tokens)
        detected_at = _first_stretch(known, period, length)
        if detected_at is not None:
            found = Loop(detected_at - length, detected_at, period)
    return found


def _first_stretch(ids: _Tokens, period: int, length: int) -> int | None:
    """Where the first stretch of a length and period ends."""
    same = ids[period:] == ids[:-period]
    wanted = length - period
    if np.count_nonzero(same) < wanted:
        return None
    counts = np.concatenate([[0], np.cumsum(same)])
    whole = np.flatnonzero(counts[wanted:] - counts[:-wanted] == wanted)
    return None if not len(whole) else int(whole[0]) + length


def _repeats_anything(ids: _Tokens, length: int) -> bool:
    """Whether some tokens in a row may stand there twice; a loop has half its least length so.

    Most answers have no such thing, and are done with here in linear time but for a sort.
    """
    hashes, covered = ids.astype(np.uint64), 1
    while covered < length:
        # Each stands for so many tokens in a row, and with one further on for more of them.
        further = min(covered, length - covered)
        hashes = hashes[:-further] * _MULTIPLIER + hashes[further:]
        covered += further
    return len(np.unique(hashes)) < len(hashes)
