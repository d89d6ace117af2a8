"""Answers that are graded at every length: where their first tokens turn right and wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Changes:
    """Where answers turn right or wrong, all of them wrong at first.

    Attributes:
        question: place of the question, shape (m,).
        when: tokens or seconds from which on it is so, rising, shape (m,).
        step: +1 where it turns right, -1 where it turns wrong, shape (m,).
    """

    question: Integers
    when: npt.NDArray[Any]
    step: Integers

    def at(self, when: npt.NDArray[Any]) -> Changes:
        """The same changes on another scale, in its order."""
        order = np.argsort(when, kind="stable")
        return Changes(self.question[order], when[order], self.step[order])

    def right_at(self, limits: npt.ArrayLike, n: int) -> Flags:
        """Which of n questions are right within each limit; shape (n, limits), limits rising."""
        grid = np.asarray(limits)
        total = np.zeros((n, len(grid) + 1), dtype=np.int8)
        np.add.at(total, (self.question, np.searchsorted(grid, self.when, side="left")), self.step)
        return total[:, :-1].cumsum(axis=1, dtype=np.int8) > 0


@dataclass(frozen=True)
class AnswerGroup:
    """The answers of one configuration.

    Attributes:
        strategy: label of the strategy that asked.
        budget_tokens: the budget that it was given; None where there is none.
        question_ids: n questions, sorted; the same in every group.
        tasks: of each question; "" where it belongs to none.
        changes: by grader ("exact", "lenient", ...): where verdicts change, in tokens.
        tokens: tokens of each answer, shape (n,).
        prompt_tokens: of each question's prompt, shape (n,).
        closing_start: first token of a closing text that was put into the answer; -1: none.
        closing_tokens: how many tokens it has.
        boxed: the headline's grader finds an answer in it, shape (n,).
        limited: the answer was cut off by the limit it was generated with, shape (n,).
        failed: no mirror gave an answer, shape (n,).
        looped: the answer repeats itself without end, shape (n,).
    """

    quantization: str
    prompt: str
    strategy: str
    budget_tokens: int | None
    question_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    changes: Mapping[str, Changes]
    tokens: Integers
    prompt_tokens: Integers
    closing_start: Integers
    closing_tokens: Integers
    boxed: Flags
    limited: Flags
    failed: Flags
    looped: Flags

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return int(self.tokens.max())

    def correct(self, cuts: Sequence[int], grader: str = "exact") -> Flags:
        """Right or wrong where answers are cut after so many tokens; shape (n, len(cuts))."""
        return self.changes[grader].right_at(cuts, len(self.question_ids))
