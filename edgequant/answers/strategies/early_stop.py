"""Early stop: the uncapped answer is cropped, and the model asked for its final answer there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgequant.answers.prompts import Prompt, render
from edgequant.answers.questions import Question
from edgequant.answers.strategies.strategy import (
    Budgets,
    Closing,
    PositiveInt,
    Request,
    Strategy,
)
from edgequant.core.errors import ExperimentError

CLOSING = "\n\nTime's up! The final answer is \\boxed{"
"""Ends in an open box, which the model has only to fill."""
MORE_TOKENS = 25

ClosingText = Annotated[str, Field(min_length=1, max_length=10_000)]


class EarlyStop(Strategy):
    """Ask once without a word of a budget; crop the answer at each budget, and close it there.

    What has ended by then is taken as it is. Time counts what was kept, the closing text and what
    came behind it.
    """

    name: Literal["early_stop"] = "early_stop"
    budgets: Budgets
    """In tokens: so many are kept."""
    closing: ClosingText = CLOSING
    """Put behind what is kept, as text; special tokens in it count as such."""
    more_tokens: PositiveInt = MORE_TOKENS
    """The model goes on for at most so many."""

    def requests(self, prompt: Prompt, question: Question | str, max_tokens: int) -> list[Request]:
        if self.budgets[-1] > max_tokens:
            raise ExperimentError(
                f"early_stop crops at {self.budgets[-1]} tokens, but answers are stopped at "
                f"max_tokens, {max_tokens}",
                next_step="raise evaluation.max_tokens, or leave out the larger budgets",
            )
        messages = render(prompt, question)
        return [
            Request(messages, max_tokens, budget, self._closing_at(budget))
            for budget in self.budgets
        ]

    def _closing_at(self, budget: int) -> Closing:
        return Closing(lambda token_ids: budget, self.closing, self.more_tokens)
