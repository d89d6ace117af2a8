"""Write the held-out questions in GSM8K's JSONL form.

python -m experiments.demo_model.questions --out experiments/demo_model/questions.jsonl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from .generator import Problem, normalise, problems

COUNT = 600
SEED = "questions"
LEVELS = (2, 3, 4)
"""Levels of the shipped questions; an even mix."""


def held_out(
    count: int = COUNT, seed: str = SEED, levels: tuple[int, ...] = LEVELS
) -> Iterator[Problem]:
    """Yield ``count`` different held-out problems, the levels taking turns."""
    sources = {
        level: problems(f"{seed}-{level}", held_out=True, levels=(level,)) for level in levels
    }
    seen: set[str] = set()
    while len(seen) < count:
        problem = next(sources[levels[len(seen) % len(levels)]])
        key = normalise(problem.question)
        if key not in seen:
            seen.add(key)
            yield problem


def record(problem: Problem) -> dict[str, str | int]:
    """One line of the file; ``family`` and ``level`` are extras that GSM8K does not have."""
    return {
        "question": problem.question,
        "answer": problem.gsm8k_answer(),
        "family": problem.family,
        "level": problem.level,
    }


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", default=SEED, help="another one gives other questions")
    arguments = parser.parse_args()
    problems = held_out(arguments.count, arguments.seed)
    lines = [json.dumps(record(problem)) for problem in problems]
    arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
