"""Stated budgets: the prompt tells the model how many tokens it has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from edgequant.answers.prompts import Factor, Prompt, render
from edgequant.answers.questions import Question
from edgequant.answers.strategies.strategy import Budgets, Request, Strategy, rising

NAME = "stated"
Factors = Annotated[tuple[Factor, ...], Field(min_length=1), AfterValidator(rising)]


class Stated(Strategy):
    """Ask once for each budget, which the model is told a part of (the prompt's factor).

    Such a prompt is another prompt: its answers are generated anew, and stopped at the budget.
    """

    name: Literal["stated"] = "stated"
    budgets: Budgets
    """In tokens."""
    factors: Factors | None = None
    """The model is told ``int(budget * factor)``, with each of these; by default with the
    prompt's own."""

    def requests(self, prompt: Prompt, question: Question | str, max_tokens: int) -> list[Request]:
        return [
            Request(
                render(prompt, question, budget, factor),
                budget,
                budget,
                variant="" if factor is None else f"{factor:.12g}",
            )
            for factor in self.factors or (None,)
            for budget in self.budgets
        ]
