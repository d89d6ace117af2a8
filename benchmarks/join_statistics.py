"""How often the join's claims are true: simulated coverage and false leads. No model, no board.

    python -m benchmarks.join_statistics --runs 400

Answers are drawn from curves that are known: each question has a difficulty that all configurations
share, each configuration a chance to get it right and a time that it takes. Then the join is asked
what it would claim, and the claims are held against what is true.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import special

from edgequant.latency.pace import Pace
from edgequant.matching.best import best_rows
from edgequant.matching.curves import Curve
from edgequant.matching.cuts import AnswerGroup, Changes
from edgequant.matching.leads import crossover_rows
from edgequant.matching.limits import time_limits

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """One configuration as it really is.

    Attributes:
        accuracy: of whole answers.
        seconds: median of what an answer takes.
        spread: standard deviation of the logarithm of its seconds.
        shared: correlation of its answers with the difficulty that all share.
    """

    accuracy: float
    seconds: float
    spread: float = 0.4
    shared: float = 0.7


CROSSING: dict[str, tuple[Truth, Truth]] = {
    "0.72 and 0.92": (Truth(0.72, 1.0), Truth(0.92, 1.65, 0.35)),
    "close": (Truth(0.80, 1.0, 0.5, 0.8), Truth(0.90, 1.5, 0.5, 0.8)),
    "far apart": (Truth(0.50, 1.0, 0.3, 0.6), Truth(0.90, 3.3, 0.3, 0.6)),
    "wide": (Truth(0.60, 1.0, 0.8), Truth(0.85, 2.2, 0.8)),
}
"""Pairs of which the first is quicker and the second better: they cross once."""


def answers(truths: Sequence[Truth], n: int, generator: np.random.Generator) -> list[Floats]:
    """When each of n questions is answered right by each configuration; infinite: never."""
    difficulty = generator.normal(size=n)
    drawn = []
    for truth in truths:
        own = generator.normal(size=n)
        skill = truth.shared * difficulty + math.sqrt(1 - truth.shared**2) * own
        # Harder questions take longer as well.
        length = 0.4 * difficulty + math.sqrt(1 - 0.16) * generator.normal(size=n)
        seconds = truth.seconds * np.exp(truth.spread * length)
        # Question by question: pairs must be drawn independently, as a paired test takes them.
        right = skill < special.ndtri(truth.accuracy)
        drawn.append(np.where(right, seconds, np.inf))
    return drawn


def curve(name: str, prompt: str, right_from: Floats) -> Curve:
    """A configuration from the times at which its answers are right."""
    n = len(right_from)
    asked = np.flatnonzero(np.isfinite(right_from))
    changes = Changes(asked, right_from[asked], np.ones(len(asked), dtype=np.int64))
    none, no = np.full(n, -1), np.zeros(n, dtype=np.bool_)
    group = AnswerGroup(
        quantization=name,
        prompt=prompt,
        strategy="truncate",
        budget_tokens=None,
        question_ids=tuple(f"{number:05d}" for number in range(n)),
        tasks=("",) * n,
        changes={},
        tokens=np.ones(n, dtype=np.int64),
        prompt_tokens=np.ones(n, dtype=np.int64),
        closing_start=none,
        closing_tokens=none,
        boxed=no,
        limited=no,
        failed=no,
        looped=no,
    )
    whole = np.where(np.isfinite(right_from), right_from, np.median(right_from[asked]))
    pace = Pace(name, "measured", 1.0, 0.0)
    return Curve(group, pace, "seconds", changes.at(changes.when), whole)


@functools.cache
def true_crossing(pair: tuple[Truth, Truth]) -> float:
    """Where the first stops being ahead, from a million questions."""
    first, second = (np.sort(s) for s in answers(pair, 1_000_000, np.random.default_rng(1)))
    grid = np.exp(np.linspace(math.log(pair[0].seconds) - 1, math.log(pair[1].seconds) + 3, 20_001))
    lead = np.searchsorted(first, grid) - np.searchsorted(second, grid)
    return float(grid[np.flatnonzero(lead > 0)[-1]])


def coverage(
    pair: tuple[Truth, Truth],
    n: int,
    runs: int,
    generator: np.random.Generator,
    configurations: int = 1,
) -> tuple[int, int]:
    """How many claimed crossovers there are, and how many of their intervals hold the true one.

    Args:
        pair: two quantizations.
        n: questions.
        runs: how often they are asked.
        generator: of random numbers.
        configurations: of each quantization, all equally good: the best of so many is compared.
    """
    true = true_crossing(pair)
    claimed = covered = 0
    for _ in range(runs):
        drawn = answers(pair * configurations, n, generator)
        curves = [
            curve("AB"[place % 2], f"p{place // 2}", right) for place, right in enumerate(drawn)
        ]
        rows = crossover_rows(curves, np.array(time_limits(curves)))
        for row in rows:
            if row["prompt"] == "any" and row["confident"]:
                claimed += 1
                covered += float(str(row["seconds_low"])) <= true <= float(str(row["seconds_high"]))
    return claimed, covered


def false_leads(
    quantizations: int, configurations: int, n: int, runs: int, generator: np.random.Generator
) -> tuple[int, int]:
    """Of runs with equal quantizations, those that call one worse, and those that see a crossover.

    Args:
        quantizations: how many, all as good and as quick.
        configurations: of each: the best of so many is compared.
        n: questions.
        runs: how many are simulated.
        generator: of random numbers.
    """
    worse = crossed = 0
    for _ in range(runs):
        truths = [Truth(0.8, 1.0)] * (quantizations * configurations)
        curves = [
            curve(f"Q{place % quantizations}", f"p{place // quantizations}", right)
            for place, right in enumerate(answers(truths, n, generator))
        ]
        limits = np.array(time_limits(curves))
        worse += any(row.get("worse") for row in best_rows(curves, limits))
        crossed += any(
            row["confident"] and row["prompt"] == "any" for row in crossover_rows(curves, limits)
        )
    return worse, crossed


def flattery(configurations: int, n: int, runs: int, generator: np.random.Generator) -> float:
    """How many points too much the table's accuracy of the best of equal choices is, on average."""
    excess = []
    for _ in range(runs):
        truths = [Truth(0.8, 1.0)] * configurations
        curves = [
            curve("Q", f"p{place}", right)
            for place, right in enumerate(answers(truths, n, generator))
        ]
        last = best_rows(curves, np.array([1000.0]))[0]
        excess.append(float(str(last["accuracy"])) - 0.8)
    return 100 * float(np.mean(excess))


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)
    for (name, pair), n, configurations in product(CROSSING.items(), (200, 600, 1319), (1, 4)):
        claimed, covered = coverage(pair, n, options.runs, generator, configurations)
        share = f"{covered / claimed:.3f}" if claimed else "none"
        print(
            f"coverage, {name}, n {n}, best of {configurations}: "
            f"{share} of {claimed} claimed ({options.runs} runs)"
        )
    for quantizations in (2, 4):
        worse, crossed = false_leads(quantizations, 4, 200, options.runs, generator)
        print(
            f"false leads, {quantizations} equal quantizations: {worse} of {options.runs} runs "
            f"call one worse, {crossed} see a crossover"
        )
    print(f"flattery of the best of 8: {flattery(8, 200, options.runs, generator):+.2f} points")


if __name__ == "__main__":
    main()
