"""Turn word problems into the exact token streams that the demo model is trained on.

A prompt is ChatML with the study's system texts.  Token ids are made piece by piece between the
chat markers, the way llama.cpp cuts a chat-formatted text, so training and serving agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np

from .generator import LENGTHS, LEVELS, Problem, problems, tempting_wrong_answer

COT = (
    "Follow this pattern to solve the problem:\n"
    "Provide a revised answer through step-by-step reasoning.\n"
    "\n"
    "Conclude with your final answer within \\boxed{}."
)
AAV = (
    "Quick Answer: Give an initial answer via intuition or quick calculation.\n"
    "\n"
    "Verification: Provide a revised answer through step-by-step reasoning and correct any"
    " mistakes.\n"
    "\n"
    "Conclude with your final answer within \\boxed{}."
)
SYSTEM_TEXTS = {"cot": COT, "aav": AAV}
"""The study's system texts, to the letter."""

START_ID, END_ID, PAD_ID = 1, 2, 3
NO_LOSS = -1
"""Label of a position that is not trained on."""


class Encoder(Protocol):
    """What is used of a SentencePiece processor."""

    def encode(self, text: str) -> list[int]: ...


def budget_sentence(tokens: int) -> str:
    """The study's sentence that states a budget of ``tokens`` tokens."""
    return f"You MUST respond in **UNDER {tokens} tokens**"


def system_text(prompt: str, stated: int | None) -> str:
    """The system text of ``cot`` or ``aav``, with the stated budget in tokens if there is one."""
    text = SYSTEM_TEXTS[prompt]
    return text if stated is None else f"{text}\n\n{budget_sentence(stated)}"


def chat_text(prompt: str, stated: int | None, question: str) -> str:
    """The whole ChatML prompt as text, up to where the model begins to write."""
    return (
        f"<|im_start|>system\n{system_text(prompt, stated)}<|im_end|>\n"
        f"<|im_start|>user\n{question}<|im_end|>\n"
        f"<|im_start|>assistant\n"
    )


def answer_text(problem: Problem, prompt: str, length: str, quick: int | None = None) -> str:
    """What the model should write; ``quick`` is the first guess that ``aav`` opens with."""
    if prompt == "cot":
        return problem.solution(length)
    opening = f"Quick Answer: \\boxed{{{problem.answer if quick is None else quick}}}"
    if length == "bare":
        return opening
    return f"{opening}\nVerification:\n{problem.solution(length)}"


def prompt_tokens(encoder: Encoder, prompt: str, stated: int | None, question: str) -> list[int]:
    """Token ids of ``chat_text``: control tokens, and the text between them piece by piece."""
    system = f"system\n{system_text(prompt, stated)}"
    return [
        *(START_ID, *encoder.encode(system), END_ID, *encoder.encode("\n")),
        *(START_ID, *encoder.encode(f"user\n{question}"), END_ID, *encoder.encode("\n")),
        *(START_ID, *encoder.encode("assistant\n")),
    ]


@dataclass(frozen=True, slots=True)
class Example:
    """One training document: its token ids, and from where on they are trained on."""

    tokens: list[int]
    prompt_tokens: int
    untrained: tuple[int, int]
    """Half-open range of answer tokens without loss (a quick answer that is wrong)."""


class ExampleMaker:
    """Draws training documents: problems, prompts, stated budgets and answers to match."""

    def __init__(self, encoder: Encoder, seed: int | str, levels: tuple[int, ...] = LEVELS):
        self._encoder = encoder
        self._rng = Random(f"examples-{seed}")
        self._problems = problems(f"train-{seed}", held_out=False, levels=levels)

    def _fitting(self, problem: Problem, prompt: str) -> tuple[int | None, str]:
        """Draw a stated budget in tokens and the longest answer that fits into it."""
        rng = self._rng
        if rng.random() < 0.4:
            return None, "full"
        wanted = int(rng.random() * len(LENGTHS))
        need = self._need(problem, prompt, LENGTHS[wanted])
        if wanted == 0:
            # Below the bare answer's own size nothing fits; it is still the best answer.
            low, high = 1, self._need(problem, prompt, LENGTHS[1]) - 1
        elif wanted == len(LENGTHS) - 1:
            low, high = need, max(600, need)
        else:
            low, high = need, self._need(problem, prompt, LENGTHS[wanted + 1]) - 1
        if high < low:
            return low, LENGTHS[wanted]
        # Squared, so that tight budgets are common: they are where counting matters.
        stated = low + int(rng.random() ** 2 * (high - low + 1))
        return stated, LENGTHS[wanted]

    def _need(self, problem: Problem, prompt: str, length: str) -> int:
        """Tokens of an answer with its end marker and a margin for a model that miscounts."""
        tokens = len(self._encoder.encode(answer_text(problem, prompt, length))) + 1
        return tokens if length == "bare" else tokens + 2 + tokens // 20

    def __iter__(self) -> Iterator[Example]:
        rng, encode = self._rng, self._encoder.encode
        for problem in self._problems:
            prompt = "cot" if rng.random() < 0.55 else "aav"
            stated, length = self._fitting(problem, prompt)
            tokens = prompt_tokens(self._encoder, prompt, stated, problem.question)
            start = len(tokens)
            untrained = (0, 0)
            quick = problem.answer
            if prompt == "aav" and length != "bare" and rng.random() < 0.6:
                # A wrong guess teaches to trust the steps; the guess itself is not learnt.
                quick = tempting_wrong_answer(problem, rng)
                opening = encode(f"Quick Answer: \\boxed{{{quick}}}")
                lead = len(encode("Quick Answer: \\boxed{"))
                untrained = (lead, len(opening) - 1)
            tokens += encode(answer_text(problem, prompt, length, quick))
            tokens.append(END_ID)
            yield Example(tokens, start, untrained)


def pack(
    examples: Iterator[Example], rows: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pack documents into ``rows`` rows of ``width`` tokens.

    Returns token ids, labels (the next token, or ``NO_LOSS``) and the number of the document
    that each position belongs to, all of shape ``(rows, width)``.  A document is never cut.
    """
    ids = np.full((rows, width), PAD_ID, np.int16)
    labels = np.full((rows, width), NO_LOSS, np.int16)
    documents = np.zeros((rows, width), np.int16)
    waiting: Example | None = None
    for row in range(rows):
        at, number = 0, 1
        while True:
            example = waiting or next(examples)
            waiting = None
            tokens = example.tokens
            size = len(tokens) - 1  # the last token is only ever a label
            if size > width:
                continue
            if at + size > width:
                waiting = example
                break
            ids[row, at : at + size] = tokens[:-1]
            first = example.prompt_tokens
            labels[row, at + first - 1 : at + size] = tokens[first:]
            skip_from, skip_to = example.untrained
            if skip_to > skip_from:
                labels[row, at + first - 1 + skip_from : at + first - 1 + skip_to] = NO_LOSS
            documents[row, at : at + size] = number
            at += size
            number += 1
    return ids, labels, documents
