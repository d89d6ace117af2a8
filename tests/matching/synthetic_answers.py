"""Synthetic answers that behave like a small model's: longer is better, fewer bits are worse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from edgequant.core.schemas import ANSWERS, QUESTIONS
from edgequant.core.tables import make_table

SKILL = {"Q2_K": 0.52, "Q3_K_M": 0.66, "Q4_K_M": 0.78, "Q8_0": 0.86}

Table = tuple[pd.DataFrame, pd.DataFrame]
"""Answers, and the questions with their right answers."""


def answer_row(
    quantization: str,
    prompt: str,
    told: int | None,
    question: int,
    expected: int,
    pieces: Sequence[str],
    *,
    max_tokens: int = 384,
    prompt_tokens: int = 120,
) -> dict[str, object]:
    """One row of answers, cut at ``max_tokens``; ``told`` is the stated budget, if any.

    The right answer stands in it too, for :func:`frame` to make the questions from.
    """
    kept = list(pieces)[:max_tokens]
    return {
        "quantization": quantization,
        "prompt": prompt,
        "strategy": "truncate" if told is None else "stated",
        "budget_tokens": told,
        "question_id": f"{question:04d}",
        "question_sha256": f"{question:064x}",
        "expected_answer": str(expected),
        "token_ids": list(range(len(kept))),
        "token_texts": kept,
        "text": "".join(kept),
        "stop_reason": "limit" if len(pieces) > max_tokens else "eos",
        "prompt_tokens": prompt_tokens,
        "max_tokens": max_tokens,
        "model_sha256": "ab" * 32,
        "llama_cpp_commit": "0c1e57098",
    }


def frame(rows: Sequence[dict[str, object]]) -> Table:
    """Rows as the tables that generation and questions give."""
    questions = {row["question_id"]: row for row in rows}
    return make_table(rows, ANSWERS), make_table(questions.values(), QUESTIONS)


def box(value: int) -> list[str]:
    """A box's tokens: digits are single tokens, as in the demo's tokenizer."""
    return ["\\", "boxed", "{", *str(value), "}"]


def synthetic_answers(
    questions: int = 200,
    *,
    skill: dict[str, float] | None = None,
    prompts: Sequence[str] = ("cot", "aav"),
    stated_budgets: Sequence[int] = (32, 64, 128),
    max_tokens: int = 384,
    seed: int = 1,
) -> Table:
    """Answers of several quantizations to the same questions.

    ``cot`` boxes once, after its steps. ``aav`` boxes a quick answer first and the verified one
    later, which sometimes overwrites a right answer. A stated budget shortens the steps, at a
    price in accuracy.
    """
    skill = SKILL if skill is None else skill
    random = np.random.default_rng(seed)
    ease = random.uniform(size=questions)
    steps = random.integers(4, 14, size=questions)
    expected = random.integers(1, 2000, size=questions)
    rows: list[dict[str, object]] = []
    for quantization, ability in skill.items():
        for prompt in prompts:
            for stated in (None, *stated_budgets):
                for q in range(questions):
                    share = 1.0 if stated is None else min(1.0, stated / (14.0 * steps[q]))
                    chance = ability * (0.35 + 0.65 * share)
                    noise = random.normal(0, 0.12)
                    value = int(expected[q])
                    wrong = value + int(random.integers(1, 9))
                    final = value if ease[q] + noise < chance else wrong
                    length = max(2, int(steps[q] * 14 * share * random.uniform(0.8, 1.2)))
                    if ability < 0.6 and random.uniform() < 0.06:
                        length = 4 * max_tokens  # few bits sometimes ramble on
                    body = [" step"] * length
                    pieces = [*body, *box(final), "\n", ""]
                    if prompt == "aav":
                        quick = value if ease[q] + noise < ability * 0.45 else wrong
                        pieces = [*[" quick"] * 5, *box(quick), *body, *box(final), ""]
                    limit = max_tokens if stated is None else stated
                    tokens = 110 + q % 40 + (0 if stated is None else 14)
                    rows.append(
                        answer_row(
                            quantization,
                            prompt,
                            stated,
                            q,
                            value,
                            pieces,
                            max_tokens=limit,
                            prompt_tokens=tokens,
                        )
                    )
    return frame(rows)
