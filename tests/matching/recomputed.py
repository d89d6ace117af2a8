"""The join once more, in plain loops, from what its documentation says: to compare with."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from fractions import Fraction
from typing import Any

from edgequant.latency.pace import Pace
from edgequant.matching.graders.registry import by_role

Answer = dict[str, Any]
Steps = list[tuple[float, bool]]
"""From these seconds on, right or wrong."""


def steps(row: Answer, expected: str, pace: Pace) -> Steps:
    """Grade every beginning of an answer anew, each with its own seconds."""
    found: Steps = []
    for count in range(1, len(row["token_texts"]) + 1):
        text = "".join(row["token_texts"][:count])[: len(row["text"])]
        grader = by_role("integer")["exact"]
        readings = grader.readings(text)
        value = readings[-1].value if readings else None
        right = value is not None and grader.agrees(value, expected)
        found.append((seconds(row, count, pace), right))
    return found


def seconds(row: Answer, count: int, pace: Pace) -> float:
    """To the end of the count-th token of an answer at a flat pace."""
    step, prompt = pace.decode_seconds, row["prompt_tokens"] * pace.prefill_seconds_per_token
    start, closing = row["closing_start"], row["closing_tokens"]
    if start is None or count <= start:
        return prompt + (count - 1) * step
    # One pass over the closing text and the token before it, as cheap as a prompt or single steps.
    passed = (closing + 1) * min(pace.prefill_seconds_per_token, step)
    rest = max(count - start - closing - 1, 0)
    return prompt + (start - 1) * step + max(passed, step) + rest * step


def right_within(found: Steps, limit: float) -> bool:
    """What the last token that ends within the limit says."""
    ended = bisect_right(found, limit, key=lambda step: step[0])
    return ended > 0 and found[ended - 1][1]


def curve(answers: list[Steps]) -> list[tuple[float, int]]:
    """Times at which the number of right answers changes, and the number."""
    times = sorted({when for found in answers for when, _ in found})
    rows, last = [], 0
    for time in times:
        right = sum(right_within(found, time) for found in answers)
        if right != last:
            rows.append((time, right))
        last = right
    return rows


def parts(names: list[str]) -> dict[str, int]:
    """The five parts, dealt in the order of the names' SHA-256."""
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return {name: place % 5 for place, name in enumerate(ordered)}


def honest_accuracy(
    members: dict[str, list[dict[str, Steps]]], names: list[str], limit: float
) -> Fraction:
    """Each question by the best quantization's best configuration of the other four parts.

    Args:
        members: configurations of each quantization, the preferred first; question to steps.
        names: the questions.
        limit: seconds.
    """
    dealt, right = parts(names), 0
    for part in range(5):
        others = [name for name in names if dealt[name] != part]

        def seen(one: dict[str, Steps], others: list[str] = others) -> int:
            return sum(right_within(one[name], limit) for name in others)

        choices = [max(configurations, key=seen) for configurations in members.values()]
        best = max(choices, key=seen)
        right += sum(right_within(best[name], limit) for name in names if dealt[name] == part)
    return Fraction(right, len(names))


def mid_p(first: int, second: int) -> Fraction:
    """Two-sided mid-p of a fair coin that fell so; 1 where they are equal."""
    n, fewer = first + second, min(first, second)
    total = Fraction(2 * sum(math.comb(n, k) for k in range(fewer + 1)) - math.comb(n, fewer), 2**n)
    return min(Fraction(1), total)


def interval(
    first: list[Steps], second: list[Steps], start: float, end: float
) -> tuple[float, float]:
    """From the first to behind the last time at which the two are not told apart."""
    inside = {w for found in (*first, *second) for w, _ in found if start < w < end}
    times = sorted(inside | {start, end})
    equal = []
    for place, time in enumerate(times):
        pairs = [
            (right_within(a, time), right_within(b, time))
            for a, b in zip(first, second, strict=True)
        ]
        if mid_p(pairs.count((True, False)), pairs.count((False, True))) >= Fraction(5, 100):
            equal.append(place)
    return times[equal[0]], times[min(equal[-1] + 1, len(times) - 1)]
