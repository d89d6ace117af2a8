"""Rows of the tables that say what each configuration does, without comparing it to others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgequant.matching.curves import Curve, seconds_of
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.intervals import wilson_interval

Row = dict[str, object]


def configuration(group: AnswerGroup) -> Row:
    """What tells a configuration from others."""
    return {
        "quantization": group.quantization,
        "prompt": group.prompt,
        "strategy": group.strategy,
        "budget_tokens": group.budget_tokens,
    }


def accuracy(right: int, n: int) -> Row:
    """A share with its interval."""
    low, high = wilson_interval(right, n)
    return {"accuracy": right / n, "accuracy_low": low, "accuracy_high": high, "n": n}


def step_rows(curve: Curve) -> Iterator[Row]:
    """Every step of a configuration's accuracy over time; none where nothing is ever right."""
    common = configuration(curve.group)
    for seconds, right in zip(*curve.steps(), strict=True):
        yield {**common, "seconds": float(seconds), **accuracy(int(right), curve.n)}


def budget_rows(curve: Curve, budgets: Sequence[int]) -> Iterator[Row]:
    """The same answers cut after numbers of tokens, and whole.

    Args:
        curve: one configuration.
        budgets: numbers of tokens; those of the doubling series where there are none.
    """
    group, every = curve.group, np.arange(curve.n)
    cuts = sorted(set(budgets)) or _doubling(group.longest)
    right = {role: group.correct([*cuts, group.longest], role) for role in group.changes}
    for place, cut in enumerate([*cuts, None]):
        tokens = group.tokens if cut is None else np.minimum(group.tokens, cut)
        seconds = seconds_of(group, curve.pace, curve.mapping, every, tokens)
        yield {
            **configuration(group),
            "cut_tokens": cut,
            **accuracy(int(right["exact"][:, place].sum()), curve.n),
            **{
                f"{role}_accuracy": float(flags[:, place].mean())
                for role, flags in right.items()
                if role != "exact"
            },
            "mean_seconds": float(seconds.mean()),
            "longest_seconds": float(seconds.max()),
        }


def score_row(group: AnswerGroup) -> Row:
    """One configuration's whole answers."""
    n, longest = len(group.question_ids), group.longest
    right = {role: group.correct([longest], role)[:, 0] for role in group.changes}
    p10, median, p90 = np.quantile(group.tokens, [0.1, 0.5, 0.9])
    return {
        **configuration(group),
        **accuracy(int(right["exact"].sum()), n),
        **{f"{role}_accuracy": float(flags.mean()) for role, flags in right.items()},
        "boxed": float(group.boxed.mean()),
        "mean_tokens": float(group.tokens.mean()),
        "p10_tokens": float(p10),
        "median_tokens": float(median),
        "p90_tokens": float(p90),
        "longest_tokens": longest,
        "cut_off": float(group.limited.mean()),
        "looped": float(group.looped.mean()),
        "failed": float(group.failed.mean()),
        "mean_prompt_tokens": float(group.prompt_tokens.mean()),
        "longest_prompt_tokens": int(group.prompt_tokens.max()),
    }


def task_rows(group: AnswerGroup) -> Iterator[Row]:
    """The same answers, task by task."""
    right = group.correct([group.longest])[:, 0]
    tasks = np.array(group.tasks, dtype=object)
    for task in dict.fromkeys(group.tasks):
        own = right[tasks == task]
        yield {**configuration(group), "task": task or None, **accuracy(int(own.sum()), len(own))}


def _doubling(longest: int) -> list[int]:
    return [2**power for power in range(max(longest - 1, 1).bit_length())]
