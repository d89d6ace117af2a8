"""A latency source as a browser can use it: tables in place of formulas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgequant.latency.pace import Pace
from edgequant.matching.curves import TimeMapping, seconds_of
from edgequant.matching.cuts import AnswerGroup

Integers = npt.NDArray[np.int64]
_DIGITS = 9


def clock_tables(
    pace: Pace, mapping: TimeMapping, prompts: Sequence[int], deepest: int
) -> dict[str, object]:
    """What turns a token's place into seconds, for one quantization.

    The k-th token of an answer to a prompt of p tokens ends after ``first[p] + decoded[p + k - 1]
    - decoded[p]`` seconds.

    Args:
        pace: its seconds.
        mapping: how tokens become seconds.
        prompts: every length of a prompt, in tokens.
        deepest: the largest number of tokens that prompt and answer have together.

    Returns:
        ``first`` by the prompt's tokens, and ``decoded``, the seconds of the first so many decode
        steps.
    """
    if mapping == "ratio":
        one = pace.decode_seconds
        return {
            "first": {str(p): _short(one) for p in prompts},
            "decoded": [_short(one * depth) for depth in range(deepest + 1)],
        }
    start = min(prompts, default=0)
    depths = np.arange(deepest + 1, dtype=np.float64)
    decoded = np.asarray(
        pace.decode_seconds_for(float(start), np.maximum(depths - start, 0)), dtype=np.float64
    )
    lengths = np.array(prompts, dtype=np.float64)
    first = np.asarray(pace.seconds(lengths, np.ones_like(lengths)), dtype=np.float64)
    return {
        "first": {str(p): _short(float(s)) for p, s in zip(prompts, first, strict=True)},
        "decoded": [_short(float(s)) for s in decoded],
    }


def closing_seconds(group: AnswerGroup, pace: Pace, mapping: TimeMapping) -> list[float]:
    """When the token after each closing text ends; 0 where an answer has none.

    The tokens behind it go on from there as all others do.
    """
    has = group.closing_start >= 0
    after = np.where(has, group.closing_start + group.closing_tokens + 1, 1)
    every = np.arange(len(group.question_ids))
    seconds = seconds_of(group, pace, mapping, every, after)
    return [_short(float(s)) if own else 0.0 for s, own in zip(seconds, has, strict=True)]


def _short(seconds: float) -> float:
    return float(f"{seconds:.{_DIGITS}g}")
