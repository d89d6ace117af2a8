"""Hard budgets: an uncapped greedy answer holds the answer of every smaller budget."""

from __future__ import annotations

from typing import Literal

from edgequant.answers.prompts import Prompt, render
from edgequant.answers.questions import Question
from edgequant.answers.strategies.strategy import Request, Strategy

NAME = "truncate"


class Truncate(Strategy):
    """Ask once without a word of a budget, and cut the answer at any."""

    name: Literal["truncate"] = "truncate"

    def requests(self, prompt: Prompt, question: Question | str, max_tokens: int) -> list[Request]:
        return [Request(render(prompt, question), max_tokens)]
