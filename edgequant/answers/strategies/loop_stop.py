"""Loop stop: an answer that repeats itself for good is closed where that becomes sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgequant.answers.loops import find_loop
from edgequant.answers.prompts import Prompt, render
from edgequant.answers.questions import Question
from edgequant.answers.strategies.early_stop import CLOSING, MORE_TOKENS, ClosingText
from edgequant.answers.strategies.strategy import (
    Closing,
    PositiveInt,
    Request,
    Strategy,
)


class LoopStop(Strategy):
    """Ask once without a word of a budget; where the answer loops, close it as early_stop does.

    An answer without a loop is taken as it is.
    """

    name: Literal["loop_stop"] = "loop_stop"
    closing: ClosingText = CLOSING
    """As early_stop's."""
    more_tokens: PositiveInt = MORE_TOKENS
    """As early_stop's."""

    def requests(self, prompt: Prompt, question: Question | str, max_tokens: int) -> list[Request]:
        closing = Closing(_until_a_loop_is_sure, self.closing, self.more_tokens)
        return [Request(render(prompt, question), max_tokens, closing=closing)]


def _until_a_loop_is_sure(token_ids: Sequence[int]) -> int | None:
    loop = find_loop(token_ids)
    return None if loop is None else loop.detected_at
