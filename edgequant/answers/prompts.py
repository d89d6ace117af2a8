"""Prompts as data: ``prompts/NAME.toml`` says what the model is told, and how of its budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from pydantic import Field, model_validator

from edgequant.core.errors import PromptError
from edgequant.core.fields import Name, Section
from edgequant.core.hashing import sha256_json
from edgequant.core.toml_file import read_toml_model, require_data_file

NUMBER_FIELD = "{n}"
QUESTION_FIELD = "{question}"
Wrapper = Literal["template", "chatml"]

CHATML_END = "<|im_end|>"
"""Ends a turn in ChatML: plain text to a model that has no such token."""


Factor = Annotated[float, Field(gt=0, le=1000)]
"""Of a budget, what the model is told: models overrun what they are told."""


class Message(TypedDict):
    """One turn of a chat."""

    role: Literal["system", "user"]
    content: str


class BudgetSentence(Section):
    """How a prompt tells the model its budget."""

    sentence: str
    """Has ``{n}`` where the number of tokens goes."""
    factor: Factor = 0.5
    """The model is told ``int(budget * factor)``, because models overrun what they are told."""
    separator: str = "\n\n"
    """Stands between the system text and the sentence."""

    @model_validator(mode="after")
    def _has_number(self) -> BudgetSentence:
        if NUMBER_FIELD not in self.sentence:
            raise ValueError(f"the sentence has no {NUMBER_FIELD}")
        return self


class Prompt(Section):
    """One prompt file."""

    name: Name
    """By default the file's name without its suffix."""
    description: str = ""
    system: str = ""
    """Empty for a prompt without a system turn."""
    user: str = QUESTION_FIELD
    """Has ``{question}`` where the question goes."""
    budget: BudgetSentence | None = None

    @model_validator(mode="after")
    def _has_question(self) -> Prompt:
        if QUESTION_FIELD not in self.user:
            raise ValueError(f"the user text has no {QUESTION_FIELD}")
        return self

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of all that reaches the model."""
        return sha256_json(self.model_dump(mode="json", exclude={"name", "description"}))


def load_prompt(name: str) -> Prompt:
    """Read a prompt given by its name in ``prompts/``, or by the path of a file.

    Raises:
        PromptError: unknown, not TOML, or with a wrong or missing key.
    """
    return read_prompt(require_data_file("prompts", name, what="prompt", error=PromptError))


def read_prompt(path: Path) -> Prompt:
    """Read one prompt file.

    Raises:
        PromptError: not TOML, or with a wrong or missing key.
    """
    return read_toml_model(
        path,
        Prompt,
        error=PromptError,
        next_step="copy prompts/cot.toml and edit it",
        defaults={"name": path.stem},
    )


def render(
    prompt: Prompt,
    question: str,
    budget_tokens: int | None = None,
    factor: float | None = None,
) -> list[Message]:
    """The turns that ask one question.

    Args:
        prompt: what the model is told.
        question: the question's text.
        budget_tokens: tell the model that it has so many tokens (times the prompt's factor),
            or None to say nothing of it.
        factor: in place of the prompt's own.

    Raises:
        PromptError: the prompt has no budget sentence, or the budget is too small to be told.
    """
    system = prompt.system
    if budget_tokens is not None:
        if prompt.budget is None:
            raise PromptError(
                "has no [budget] table, so it cannot state a budget",
                subject=prompt.name,
                next_step="add one as in prompts/cot.toml, or leave out the stated budgets",
            )
        factor = prompt.budget.factor if factor is None else factor
        told = int(budget_tokens * factor)
        if told < 1:
            raise PromptError(
                f"a budget of {budget_tokens} tokens times {factor:g} is less than one",
                subject=prompt.name,
                next_step="state a larger budget",
            )
        sentence = prompt.budget.sentence.replace(NUMBER_FIELD, str(told))
        system = system + prompt.budget.separator + sentence if system else sentence
    messages: list[Message] = []
    if system:
        messages.append({"role": "system", "content": system})
    messages.append({"role": "user", "content": prompt.user.replace(QUESTION_FIELD, question)})
    return messages


def chatml(messages: Sequence[Message]) -> str:
    """The study's exact form, whatever the model's template is; the assistant's turn is open."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}{CHATML_END}\n" for m in messages)
    return turns + "<|im_start|>assistant\n"
