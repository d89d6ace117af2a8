"""Hard budgets: an uncapped greedy answer holds the answer of every smaller budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgequant.answers.prompts import Prompt, render
from edgequant.answers.questions import Question
from edgequant.answers.strategies.strategy import Outcome, Request, Strategy

NAME = "truncate"
GRID_RATIO = 1.12
"""Neighbouring budgets of the grid differ by about this factor."""


class Truncate(Strategy):
    """Ask once without a word of a budget, and cut the answer at any."""

    name: Literal["truncate"] = "truncate"

    def requests(self, prompt: Prompt, question: Question | str, max_tokens: int) -> list[Request]:
        return [Request(render(prompt, question), max_tokens)]

    @classmethod
    def outcomes(
        cls, budget_tokens: int | None, longest: int, budgets: Sequence[int]
    ) -> list[Outcome]:
        """Every budget of a grid, and no limit: that of the longest answer."""
        return [
            *(Outcome(budget, budget) for budget in budget_grid(longest, budgets)),
            Outcome(None, longest),
        ]


def budget_grid(longest: int, extra: Sequence[int] = ()) -> list[int]:
    """Budgets to evaluate, about evenly spaced in their logarithm, all whole tokens.

    Args:
        longest: tokens of the longest answer: larger budgets change nothing.
        extra: budgets to be there in any case.
    """
    grid = {1, *extra}
    value = 2.0
    while value < longest:
        grid.add(round(value))
        value = max(value + 1, value * GRID_RATIO)
    return sorted(grid)
