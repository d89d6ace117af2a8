"""A strategy as a value: the requests it makes of a question."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edgequant.answers.prompts import Message, Prompt
from edgequant.answers.questions import Question

PositiveInt = Annotated[int, Field(gt=0)]
_Number = TypeVar("_Number", int, float)


def rising(numbers: tuple[_Number, ...]) -> tuple[_Number, ...]:
    """Each number once, the smallest first."""
    return tuple(sorted(set(numbers)))


Budgets = Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(rising)]
"""Budgets in tokens."""


@dataclass(frozen=True, slots=True)
class Closing:
    """How an answer is cut short and brought to its end.

    Attributes:
        crop: of the tokens of the uncropped answer, how many are kept; None: the answer stays as
            it is. So does one whose text has ended by then. It must depend on nothing but the
            tokens.
        text: put behind what is kept; it asks for the final answer.
        max_tokens: the model goes on for at most so many.
    """

    crop: Callable[[Sequence[int]], int | None]
    text: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Request:
    """One row of answers to be had. The same turns with the same limit are asked only once.

    Attributes:
        messages: the turns that ask it.
        max_tokens: where the answer to them is stopped.
        budget_tokens: the budget that it stands for; None: none.
        closing: how the answer is closed; None: it is taken as it comes.
        variant: what tells it from other requests of the strategy, in its label.
    """

    messages: list[Message]
    max_tokens: int
    budget_tokens: int | None = None
    closing: Closing | None = None
    variant: str = ""


class Strategy(BaseModel, ABC):
    """How answers are had for a prompt and a question. Its fields are its settings.

    A subclass gives ``name`` a default: what tables and experiments call it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str

    def label(self, request: Request) -> str:
        """What tables call one of its requests: ``stated``, ``stated:0.75``."""
        return f"{self.name}:{request.variant}" if request.variant else self.name

    @abstractmethod
    def requests(self, prompt: Prompt, question: Question | str, max_tokens: int) -> list[Request]:
        """What is asked of a mirror.

        Args:
            prompt: how questions are put.
            question: what is asked.
            max_tokens: where an answer without a limit of its own is stopped.

        Raises:
            PromptError: the prompt cannot be asked in this way.
            ExperimentError: ``max_tokens`` is too small for the strategy's settings.
        """
