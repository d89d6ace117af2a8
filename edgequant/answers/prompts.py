"""Prompts as data: ``prompts/NAME.toml`` says what the model is told, and how of its budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from pydantic import AfterValidator, Field, model_validator

from edgequant.answers.questions import Question
from edgequant.answers.templates import check_template, render_template
from edgequant.core.errors import PromptError
from edgequant.core.fields import Name, Section
from edgequant.core.hashing import sha256_json
from edgequant.core.text import printable
from edgequant.core.toml_file import read_toml_model, require_data_file

QUESTION_VARIABLES = frozenset({"question", "stem", "choices"})
BUDGET_VARIABLES = frozenset({"n", "budget"})
VARIABLES = QUESTION_VARIABLES | BUDGET_VARIABLES
"""What the texts of a prompt may use; ``docs/adding-a-prompt.md`` says what each holds."""
Wrapper = Literal["template", "chatml"]

CHATML_END = "<|im_end|>"
"""Ends a turn in ChatML: plain text to a model that has no such token."""


def _template(source: str) -> str:
    check_template(source, VARIABLES)
    return source


TemplateText = Annotated[str, AfterValidator(_template)]
"""A text with variables, conditions and loops: see :mod:`edgequant.answers.templates`."""

Factor = Annotated[float, Field(gt=0, le=1000)]
"""Of a budget, what the model is told: models overrun what they are told."""


class Message(TypedDict):
    """One turn of a chat."""

    role: Literal["system", "user"]
    content: str


class BudgetSentence(Section):
    """How a prompt tells the model its budget."""

    sentence: TemplateText = ""
    """Has ``{{ n }}`` where the number of tokens goes; may be empty where another text has it."""
    factor: Factor = 0.5
    """The model is told ``int(budget * factor)``, because models overrun what they are told."""
    separator: str = "\n\n"
    """Stands between the system text and the sentence."""


class Prompt(Section):
    """One prompt file."""

    name: Name
    """By default the file's name without its suffix."""
    description: str = ""
    system: TemplateText = ""
    """Empty for a prompt without a system turn."""
    user: TemplateText = "{{ question }}"
    """Has ``{{ question }}`` where the question goes."""
    budget: BudgetSentence | None = None

    @model_validator(mode="after")
    def _has_question(self) -> Prompt:
        if not check_template(self.user, VARIABLES) & {"question", "stem"}:
            raise ValueError(f"the user text has no {{{{ question }}}}{_as_was(self.user)}")
        return self

    @model_validator(mode="after")
    def _has_number(self) -> Prompt:
        if self.budget is None:
            return self
        texts = (self.system, self.user, self.budget.sentence)
        if not any(check_template(text, VARIABLES) & BUDGET_VARIABLES for text in texts):
            sentence = self.budget.sentence
            raise ValueError(f"the budget's sentence has no {{{{ n }}}}{_as_was(sentence)}")
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
    question: Question | str,
    budget_tokens: int | None = None,
    factor: float | None = None,
) -> list[Message]:
    """The turns that ask one question.

    Args:
        prompt: what the model is told.
        question: what is asked; a text has nothing to choose from.
        budget_tokens: tell the model that it has so many tokens (times the prompt's factor),
            or None to say nothing of it.
        factor: in place of the prompt's own.

    Raises:
        PromptError: the prompt does not tell a budget, the budget is too small to be told, or a
            text cannot be made for this question.
    """
    told = None if budget_tokens is None else _told_tokens(prompt, budget_tokens, factor)
    asked = question if isinstance(question, str) else question.question
    values = {
        "question": asked,
        "stem": asked if isinstance(question, str) else question.stem or asked,
        "choices": () if isinstance(question, str) else question.choices,
        "n": told,
        "budget": budget_tokens,
    }

    def text(source: str) -> str:
        try:
            return render_template(source, values)
        except ValueError as error:
            raise PromptError(
                f"{error}, for the question {printable(asked[:60])!r}",
                subject=prompt.name,
                next_step="docs/adding-a-prompt.md says what each variable holds",
            ) from error

    system = text(prompt.system)
    if told is not None and prompt.budget is not None and prompt.budget.sentence:
        sentence = text(prompt.budget.sentence)
        system = system + prompt.budget.separator + sentence if system else sentence
    messages: list[Message] = []
    if system:
        messages.append({"role": "system", "content": system})
    messages.append({"role": "user", "content": text(prompt.user)})
    return messages


def _told_tokens(prompt: Prompt, budget_tokens: int, factor: float | None) -> int:
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
    return told


def _as_was(text: str) -> str:
    """What to write now, where a text has a variable as earlier versions had it."""
    for name in ("question", "n"):
        if f"{{{name}}}" in text:
            return f": write {{{{ {name} }}}} where it has {{{name}}}"
    return ""


def chatml(messages: Sequence[Message]) -> str:
    """The study's exact form, whatever the model's template is; the assistant's turn is open."""
    turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}{CHATML_END}\n" for m in messages)
    return turns + "<|im_start|>assistant\n"
