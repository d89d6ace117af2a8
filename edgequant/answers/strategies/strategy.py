"""A strategy as a value: the requests it makes of a question, and the outcomes of an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edgequant.answers.prompts import Message, Prompt

PositiveInt = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to be asked for.

    Attributes:
        messages: the turns that ask it.
        max_tokens: where the answer is stopped.
        budget_tokens: the budget that the messages tell the model; None where they tell none.
    """

    messages: list[Message]
    max_tokens: int
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What answers give under one budget.

    Attributes:
        budget_tokens: the budget; None: no limit.
        tokens: the first so many tokens of each answer count, and are paid for.
    """

    budget_tokens: int | None
    tokens: int


class Strategy(BaseModel, ABC):
    """How answers are had for a prompt and a question. Its fields are its settings.

    A subclass gives ``name`` a default: what tables and experiments call it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str

    @abstractmethod
    def requests(self, prompt: Prompt, question: str, max_tokens: int) -> list[Request]:
        """What is asked of a mirror.

        Args:
            prompt: how questions are put.
            question: its text.
            max_tokens: where an answer without a limit of its own is stopped.

        Raises:
            PromptError: the prompt cannot be asked in this way.
        """

    @classmethod
    @abstractmethod
    def outcomes(
        cls, budget_tokens: int | None, longest: int, budgets: Sequence[int]
    ) -> list[Outcome]:
        """What the answers to one of the requests, one for each question, give.

        Args:
            budget_tokens: the budget that the request told the model.
            longest: tokens of the longest answer.
            budgets: budgets in tokens that are asked for.
        """
