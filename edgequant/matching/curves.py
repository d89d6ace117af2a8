"""Configurations on the clock: when each question's answer turns right or wrong. Exact, no grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgequant.latency.pace import Pace
from edgequant.matching.cuts import AnswerGroup, Changes

TimeMapping = Literal["seconds", "ratio"]
"""How tokens become seconds: the question's own prompt and tokens, or the study's way."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """One configuration under one latency source.

    Attributes:
        group: its answers.
        pace: its seconds.
        mapping: how tokens become seconds.
        changes: where right and wrong change, in seconds, by rising time.
        whole_seconds: what each whole answer takes, shape (n,).
    """

    group: AnswerGroup
    pace: Pace
    mapping: TimeMapping
    changes: Changes
    whole_seconds: Floats

    @property
    def n(self) -> int:
        """Questions."""
        return len(self.group.question_ids)

    def right_at(self, seconds: Floats) -> npt.NDArray[np.bool_]:
        """Whose answer is right within each time; shape (n, len(seconds)), times rising."""
        return self.changes.right_at(seconds, self.n)

    def steps(self) -> tuple[Floats, Integers]:
        """Times at which the number of right answers changes, and the number from there on."""
        times, right = self.changes.when, np.cumsum(self.changes.step)
        last = np.append(times[1:] != times[:-1], True) if len(times) else np.zeros(0, np.bool_)
        times, right = times[last], right[last]
        changed = np.diff(right, prepend=0) != 0
        return times[changed], right[changed]


def draw_curve(
    group: AnswerGroup, pace: Pace, mapping: TimeMapping, grader: str = "exact"
) -> Curve:
    """Set a group's answers against the clock.

    Args:
        group: graded answers.
        pace: of the same quantization.
        mapping: "seconds" counts each question's own prompt and tokens; "ratio" is the study's
            simpler way, tokens times the seconds of a token.
        grader: whose verdicts count.
    """
    every = np.arange(len(group.question_ids))
    changes = group.changes[grader]
    when = seconds_of(group, pace, mapping, changes.question, changes.when)
    return Curve(
        group=group,
        pace=pace,
        mapping=mapping,
        changes=changes.at(when),
        whole_seconds=seconds_of(group, pace, mapping, every, group.tokens),
    )


def seconds_of(
    group: AnswerGroup,
    pace: Pace,
    mapping: TimeMapping,
    question: Integers,
    tokens: npt.NDArray[np.number],
) -> Floats:
    """Seconds from the question to the end of a token of its answer.

    Args:
        group: the answers.
        pace: seconds of tokens.
        mapping: how tokens become seconds.
        question: places of the questions in the group, shape (m,).
        tokens: so many first tokens of each answer, shape (m,); 0 takes the prompt alone.
    """
    count = np.asarray(tokens, dtype=np.float64)
    if mapping == "ratio":
        return np.asarray(count * pace.decode_seconds, dtype=np.float64)
    prompt = group.prompt_tokens[question].astype(np.float64)
    plain = np.asarray(pace.seconds(prompt, np.maximum(count, 1)), dtype=np.float64)
    start = group.closing_start[question].astype(np.float64)
    closed = (start >= 0) & (count > start)
    if not closed.any():
        return plain
    return np.where(closed, _closed_seconds(group, pace, question, count, prompt, start), plain)


def _closed_seconds(
    group: AnswerGroup,
    pace: Pace,
    question: Integers,
    count: Floats,
    prompt: Floats,
    start: Floats,
) -> Floats:
    """Seconds of tokens behind a closing text, which is read in one pass, as a prompt is.

    That pass reads the last token before it as well: it was chosen, but not yet read.
    """
    closing = group.closing_tokens[question].astype(np.float64)
    start = np.maximum(start, 0)
    with_own = start > 0
    until = np.where(with_own, pace.seconds(prompt, np.maximum(start, 1)), 0.0)
    depth = np.where(with_own, prompt + start - 1, 0.0)
    batch = np.where(with_own, closing + 1, prompt + closing)
    passed = pace.batch_seconds(batch, depth)
    rest = np.maximum(count - start - closing - 1, 0)
    decoded = pace.decode_seconds_for(prompt + start + closing, rest)
    return np.asarray(until + passed + decoded, dtype=np.float64)
