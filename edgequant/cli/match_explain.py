"""``edgequant match --explain``: where graders differ on the answers, and why."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.cli.output import echo, print_json, print_table

if TYPE_CHECKING:
    from edgequant.matching.explain import Difference, Explained

_CELL_CHARACTERS = 24


def explain_answers(
    answers: Path, questions: Path, tokens: int | None, rows: int, as_json: bool
) -> None:
    """Print how many answers each grader calls right, and examples of where they differ."""
    from edgequant.answers.table import read_questions_table
    from edgequant.core.progress import task
    from edgequant.core.schemas import ANSWERS
    from edgequant.core.tables import read_table
    from edgequant.matching.explain import explain

    frame, gold = read_table(answers, ANSWERS), read_questions_table(questions)
    with task("Reading every answer with every grader"):
        explained = explain(frame, gold, tokens, rows)
    if as_json:
        print_json(dataclasses.asdict(explained))
    else:
        _print_explained(explained)


def _print_explained(explained: Explained) -> None:
    rights = ", ".join(f"{name} {count}" for name, count in explained.right.items())
    echo(f"{explained.answers} answers; called right by: {rights}")
    if not explained.reasons:
        echo("All graders agree.")
        return
    print_table(
        ("answers", "why graders differ"),
        [(count, reason) for reason, count in explained.reasons.items()],
    )
    names = list(dict.fromkeys(name for d in explained.differences for name in d.readings))
    print_table(
        ("question", "quantization", "prompt", "strategy", "read", "expected", *names),
        [_row(difference, names) for difference in explained.differences],
        title="Examples; a reading that counts as right has a ✓",
    )


def _row(difference: Difference, names: list[str]) -> list[object]:
    told = "" if difference.budget_tokens is None else f" {difference.budget_tokens}"
    return [
        difference.question_id,
        difference.quantization,
        difference.prompt,
        f"{difference.strategy}{told}",
        "whole" if difference.tokens is None else f"{difference.tokens} tokens",
        difference.expected,
        *(_reading(difference, name) for name in names),
    ]


def _reading(difference: Difference, name: str) -> str | None:
    value = difference.readings.get(name)
    if value is None:
        return None
    shown = value if len(value) <= _CELL_CHARACTERS else f"{value[: _CELL_CHARACTERS - 1]}…"
    return f"{shown} ✓" if name in difference.right else shown
