"""Join answers and latencies: accuracy against seconds, best choices, crossovers. Pure.

The time of a choice is what it is sure to keep: the mean prompt, and its whole budget. For "no
limit" the budget is that of the longest answer. See ``docs/verbs/match.md`` for the formulas.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from edgequant.answers.strategies.registry import strategies
from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import BEST, CROSSOVERS, MATCHED, SCORES
from edgequant.core.tables import make_table
from edgequant.latency.pace import Pace
from edgequant.matching.crossover import Comparison, Curve, compare
from edgequant.matching.cuts import AnswerGroup, group_answers
from edgequant.matching.intervals import mcnemar_p, resampling_weights, wilson_interval

if TYPE_CHECKING:
    import pandas as pd

TimeMapping = Literal["seconds", "ratio"]
"""How tokens become seconds."""

RESAMPLES = 1000
SEED = 20240229
SIGNIFICANCE = 0.05
ANY_PROMPT = "any"

_FEWEST_LIMITS = 5
# Steps within a decade of seconds; within an hour, in minutes; within a decade of hours.
_LIMIT_STEPS: tuple[tuple[Sequence[float], Sequence[float]], ...] = (
    ((1, 2, 5), (1, 2, 5, 10, 20, 30)),
    ((1, 1.5, 2, 3, 5, 7), (1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 45)),
    (
        (1, 1.2, 1.5, 1.7, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
        (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50),
    ),
)


@dataclass(frozen=True)
class MatchedResult:
    """What matching finds.

    Attributes:
        matched: one row for each source, quantization, prompt, strategy and budget.
        best: for each source and time limit the best choice, and the quantizations whose own
            best choice cannot be told apart from it (exact McNemar, p >= 0.05).
        crossovers: changes of lead between two quantizations; those beyond chance have seconds
            and an interval, for the others ``confident`` is false and the seconds are empty.
            ``prompt`` "any" with an empty ``strategy`` stands for the best over all of them.
        scores: one row for each quantization, prompt, strategy and told budget: whole answers.
        mapping: how tokens became seconds.
        notes: what a reader must know, e.g. a quantization that a source has no latency for.
    """

    matched: pd.DataFrame
    best: pd.DataFrame
    crossovers: pd.DataFrame
    scores: pd.DataFrame
    mapping: TimeMapping = "seconds"
    notes: tuple[str, ...] = ()


@dataclass
class _Choice:
    """One quantization, prompt and budget that can be chosen."""

    quantization: str
    prompt: str
    strategy: str
    budget: int | None
    tokens: int
    mean_prompt_tokens: float
    correct: npt.NDArray[np.bool_]
    resampled: npt.NDArray[np.float32]
    accuracy: float = field(init=False)
    low: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        right, n = int(np.count_nonzero(self.correct)), len(self.correct)
        self.accuracy = right / n
        self.low, self.high = wilson_interval(right, n)


@dataclass(frozen=True, slots=True)
class _Timed:
    """A choice and its seconds under one latency source."""

    choice: _Choice
    seconds: float


def match(
    answers: pd.DataFrame,
    questions: pd.DataFrame,
    paces: Sequence[Pace],
    budgets: Sequence[int] = (),
    *,
    time_limits_seconds: Sequence[float] = (),
    mapping: TimeMapping = "seconds",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> MatchedResult:
    """Grade answers and set them against the seconds they take.

    Args:
        answers: as ``generate`` writes them.
        questions: with the right answers, as ``questions.parquet`` has them.
        paces: one for each source and quantization; a source may leave quantizations out.
        budgets: hard budgets in tokens that the result has to have; a grid is added.
        time_limits_seconds: limits of the table of best choices; round ones from the data where
            there are none.
        mapping: "seconds" counts the prompt and the decoded tokens; "ratio" is the study's
            simpler way, budget times the seconds of a token.
        resamples: bootstrap resamples of the questions.
        seed: of the resampling.

    Raises:
        DataFrameError: answers or questions lack what is needed, or no latency fits them.
        ExperimentError: the answers are of an unknown strategy.
    """
    groups = group_answers(answers, questions)
    quantizations = order_quantizations({g.quantization for g in groups})
    sources = _by_source(paces)
    notes = _missing_latencies(quantizations, sources)
    choices = _choices(groups, budgets, resamples, seed)
    rows: list[dict[str, object]] = []
    best: list[dict[str, object]] = []
    crossovers: list[dict[str, object]] = []
    for source, by_quantization in sources.items():
        timed = [
            _Timed(choice, _seconds(by_quantization[choice.quantization], choice, mapping))
            for choice in choices
            if choice.quantization in by_quantization
        ]
        if not timed:
            continue
        rows.extend(_matched_row(t, source) for t in timed)
        limits = list(time_limits_seconds) or _round_limits_of(timed)
        best.extend(_best_row(timed, source, limit) for limit in sorted(limits))
        crossovers.extend(_crossover_rows(timed, source, quantizations))
    if not rows:
        raise DataFrameError(
            "no latency belongs to any quantization of the answers: "
            f"{', '.join(sorted({p.quantization for p in paces})) or 'none'} against "
            f"{', '.join(quantizations)}",
            next_step="measure the quantizations that the answers come from",
        )
    return MatchedResult(
        matched=make_table(rows, MATCHED),
        best=make_table(best, BEST),
        crossovers=make_table(crossovers, CROSSOVERS),
        scores=make_table(
            (_score_row(g) for q in quantizations for g in groups if g.quantization == q), SCORES
        ),
        mapping=mapping,
        notes=tuple(notes),
    )


def order_quantizations(names: set[str] | Sequence[str]) -> list[str]:
    """Quantizations from few bits to many, as far as their names tell: Q2_K, Q4_0, ..., F16."""
    sizes = {"XXS": 0, "XS": 1, "S": 2, "M": 4, "L": 5, "XL": 6}

    def position(name: str) -> tuple[float, int, str]:
        upper = name.upper()
        match = re.search(r"\d+", upper)
        bits = float(match.group()) if match else 99.0
        return bits, sizes.get(upper.rpartition("_")[2], 3), upper

    return sorted(names, key=position)


def round_limits(shortest: float, longest: float) -> list[float]:
    """Time limits that people name, spanning a range of seconds: 0.2 s, 5 s, 10 min, 2 h.

    Args:
        shortest: seconds of the quickest choice that answers anything.
        longest: seconds of the best choice of all.

    Returns:
        Rising limits; within the first the quickest choice fits, within the last the best one.
        None where nothing answers anything.
    """
    if not 0 < shortest <= longest:
        return []
    limits: list[float] = []
    for decade, minutes in _LIMIT_STEPS:
        limits = _limits(shortest, longest, decade, minutes)
        if len(limits) >= _FEWEST_LIMITS:
            break
    return limits


def _round_limits_of(timed: Sequence[_Timed]) -> list[float]:
    """Limits from the quickest choice that answers anything to the best one of all."""
    # Where prompts cost nothing, an answer of one token takes no time: no limit to begin with.
    answering = [t.seconds for t in timed if t.choice.accuracy > 0 and t.seconds > 0]
    shortest = min(answering, default=0.0)
    best_of_all = _best_within(timed, np.inf)
    return round_limits(shortest, max(shortest, best_of_all.seconds if best_of_all else 0.0))


def _limits(
    shortest: float, longest: float, decade: Sequence[float], minutes: Sequence[float]
) -> list[float]:
    powers = range(
        min(math.floor(math.log10(shortest)), 0), max(math.ceil(math.log10(longest)), 0) + 2
    )
    in_decades = [float(f"{step}e{power}") for power in powers for step in decade]
    named = {limit for limit in in_decades if limit < 60}
    named |= {60.0 * step for step in minutes}
    named |= {3600 * limit for limit in in_decades if limit >= 1}
    fitting = sorted(limit for limit in named if limit >= shortest)
    last = next(place for place, limit in enumerate(fitting) if limit >= longest)
    return fitting[: last + 1]


def _by_source(paces: Sequence[Pace]) -> dict[str, dict[str, Pace]]:
    sources: dict[str, dict[str, Pace]] = {}
    for pace in paces:
        members = sources.setdefault(pace.source, {})
        if pace.quantization in members:
            raise DataFrameError(f"two {pace.source} latencies for {pace.quantization}")
        if not (
            np.isfinite(pace.decode_seconds)
            and pace.decode_seconds > 0
            and np.isfinite(pace.prefill_seconds_per_token)
            and pace.prefill_seconds_per_token >= 0
        ):
            raise DataFrameError(
                f"the {pace.source} latency of {pace.quantization} is no time: "
                f"{pace.decode_seconds} s per token, "
                f"{pace.prefill_seconds_per_token} s per prompt token"
            )
        members[pace.quantization] = pace
    return sources


def _missing_latencies(
    quantizations: Sequence[str], sources: dict[str, dict[str, Pace]]
) -> list[str]:
    return [
        f"No {source} latency for {', '.join(missing)}: left out there."
        for source, paces in sources.items()
        if (missing := [q for q in quantizations if q not in paces])
    ]


def _choices(
    groups: Sequence[AnswerGroup], budgets: Sequence[int], resamples: int, seed: int
) -> list[_Choice]:
    weights = resampling_weights(len(groups[0].question_ids), resamples, seed)
    told = {g.budget_tokens for g in groups if g.budget_tokens is not None}
    choices: list[_Choice] = []
    for group in groups:
        outcomes = group.outcomes([*budgets, *told])
        correct = group.correct([outcome.tokens for outcome in outcomes])
        resampled = weights @ correct.astype(np.float32)
        choices.extend(
            _Choice(
                quantization=group.quantization,
                prompt=group.prompt,
                strategy=group.strategy,
                budget=outcome.budget_tokens,
                tokens=outcome.tokens,
                mean_prompt_tokens=group.mean_prompt_tokens,
                correct=correct[:, index],
                resampled=resampled[:, index],
            )
            for index, outcome in enumerate(outcomes)
        )
    return choices


def _seconds(pace: Pace, choice: _Choice, mapping: TimeMapping) -> float:
    if mapping == "ratio":
        return choice.tokens * pace.decode_seconds
    return pace.seconds(choice.mean_prompt_tokens, choice.tokens)


def _matched_row(timed: _Timed, source: str) -> dict[str, object]:
    choice = timed.choice
    return {
        "quantization": choice.quantization,
        "prompt": choice.prompt,
        "strategy": choice.strategy,
        "budget_tokens": choice.budget,
        "seconds": timed.seconds,
        "accuracy": choice.accuracy,
        "accuracy_low": choice.low,
        "accuracy_high": choice.high,
        "n": len(choice.correct),
        "latency_source": source,
    }


def _best_within(timed: Sequence[_Timed], limit: float) -> _Timed | None:
    """The most accurate choice within a time, of equal ones the quickest; None if none is right."""
    within = [t for t in timed if t.seconds <= limit and t.choice.accuracy > 0]
    return min(within, key=lambda t: (-t.choice.accuracy, t.seconds), default=None)


def _best_row(timed: Sequence[_Timed], source: str, limit: float) -> dict[str, object]:
    best = _best_within(timed, limit)
    if best is None:
        return {"latency_source": source, "time_limit_seconds": limit}
    others = [
        other.choice
        for name in order_quantizations({t.choice.quantization for t in timed})
        if name != best.choice.quantization
        and (other := _best_within([t for t in timed if t.choice.quantization == name], limit))
    ]
    equal = [
        other.quantization
        for other in others
        if mcnemar_p(best.choice.correct, other.correct) >= SIGNIFICANCE
    ]
    return {
        **_matched_row(best, source),
        "time_limit_seconds": limit,
        "not_distinguishable_from": "; ".join(equal),
    }


def _crossover_rows(
    timed: Sequence[_Timed], source: str, quantizations: Sequence[str]
) -> Iterator[dict[str, object]]:
    prompts = sorted({t.choice.prompt for t in timed})
    families: list[tuple[str, str | None]] = [(ANY_PROMPT, None), *product(prompts, strategies())]
    for prompt, strategy in families:
        curves = {
            q: _curve(members)
            for q in quantizations
            if (
                members := [
                    t
                    for t in timed
                    if t.choice.quantization == q
                    and prompt in (ANY_PROMPT, t.choice.prompt)
                    and strategy in (None, t.choice.strategy)
                ]
            )
        }
        for first, second in combinations(curves, 2):
            found = compare(curves[first], curves[second], len(timed[0].choice.correct))
            row = {"latency_source": source, "prompt": prompt, "strategy": strategy}
            yield from ({**row, **r} for r in _pair_rows(first, second, found))


def _curve(members: Sequence[_Timed]) -> Curve:
    return Curve(
        seconds=np.array([t.seconds for t in members]),
        accuracy=np.array([t.choice.accuracy for t in members]),
        resampled=np.stack([t.choice.resampled for t in members], axis=1),
    )


def _pair_rows(first: str, second: str, found: Comparison) -> Iterator[dict[str, object]]:
    for crossover in found.crossovers:
        leader, follower = (first, second) if crossover.first_leads else (second, first)
        yield {
            "first_quantization": leader,
            "second_quantization": follower,
            "seconds": crossover.seconds,
            "seconds_low": crossover.seconds_low,
            "seconds_high": crossover.seconds_high,
            "lead_before": crossover.lead_before,
            "lead_after": crossover.lead_after,
            "confident": True,
            "sign_changes": found.sign_changes,
        }
    if not found.crossovers and found.sign_changes:
        yield {
            "first_quantization": first,
            "second_quantization": second,
            "confident": False,
            "sign_changes": found.sign_changes,
        }


def _score_row(group: AnswerGroup) -> dict[str, object]:
    whole = group.correct([group.longest])[:, 0]
    right, n = int(np.count_nonzero(whole)), len(whole)
    low, high = wilson_interval(right, n)
    return {
        "quantization": group.quantization,
        "prompt": group.prompt,
        "strategy": group.strategy,
        "budget_tokens": group.budget_tokens,
        "n": n,
        "accuracy": right / n,
        "accuracy_low": low,
        "accuracy_high": high,
        "lenient_accuracy": float(group.lenient.mean()),
        "boxed": float(group.boxed.mean()),
        "mean_tokens": float(group.tokens.mean()),
        "median_tokens": float(np.median(group.tokens)),
        "longest_tokens": group.longest,
        "cut_off": float(group.limited.mean()),
        "mean_prompt_tokens": group.mean_prompt_tokens,
    }
