"""Join answers and latencies: accuracy against seconds, best choices, crossovers. Pure.

A question counts within T seconds if its own answer, with its own prompt, is right within T. See
``docs/verbs/match.md`` for every formula and constant.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import BEST, BUDGETS, CROSSOVERS, MATCHED, SCORES, TASKS
from edgequant.core.tables import make_table
from edgequant.latency.pace import Pace
from edgequant.matching.best import best_rows
from edgequant.matching.curves import Curve, Floats, TimeMapping, draw_curve
from edgequant.matching.cuts import AnswerGroup
from edgequant.matching.groups import group_answers
from edgequant.matching.leads import crossover_rows
from edgequant.matching.limits import time_limits
from edgequant.matching.rows import budget_rows, score_row, step_rows, task_rows

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class MatchedResult:
    """What matching finds.

    Attributes:
        matched: accuracy against seconds: every step of every configuration's curve.
        budgets: the same answers cut at numbers of tokens, with each grader's accuracy.
        best: for each source and time limit the best choice, what it is worth on questions that
            it was not chosen by, and how it stands to the others.
        crossovers: changes of lead between two quantizations; those beyond chance have seconds
            and an interval, for the others ``confident`` is false and the seconds are empty.
            ``prompt`` "any" with an empty ``strategy`` stands for the best over all of them.
        scores: one row for each configuration: whole answers.
        tasks: the same for each task.
        mapping: how tokens became seconds.
        grader: whose verdicts the curves, best choices and crossovers are drawn from.
        notes: what a reader must know, e.g. a quantization that a source has no latency for.
    """

    matched: pd.DataFrame
    budgets: pd.DataFrame
    best: pd.DataFrame
    crossovers: pd.DataFrame
    scores: pd.DataFrame
    tasks: pd.DataFrame
    mapping: TimeMapping = "seconds"
    grader: str = "exact"
    notes: tuple[str, ...] = ()


def match(
    answers: pd.DataFrame,
    questions: pd.DataFrame,
    paces: Sequence[Pace],
    budgets: Sequence[int] = (),
    *,
    time_limits_seconds: Sequence[float] = (),
    mapping: TimeMapping = "seconds",
    grader: str = "exact",
) -> MatchedResult:
    """Grade answers and set them against the seconds they take.

    Args:
        answers: as ``generate`` writes them.
        questions: with the right answers, as ``questions.parquet`` has them.
        paces: one for each source and quantization; a source may leave quantizations out.
        budgets: hard budgets in tokens of the table of budgets; doubling ones where there are none.
        time_limits_seconds: limits of the table of best choices, at which leads are claimed;
            put where the curves change where there are none.
        mapping: "seconds" counts the prompt and the decoded tokens of each question; "ratio" is
            the study's simpler way, tokens times the seconds of a token.
        grader: "exact", "lenient", "qwen" or "math_verify".

    Raises:
        DataFrameError: answers or questions lack what is needed, or no latency fits them.
        ExperimentError: the answers are of an unknown strategy.
    """
    groups = group_answers(answers, questions)
    return match_groups(
        groups,
        paces,
        budgets,
        time_limits_seconds=time_limits_seconds,
        mapping=mapping,
        grader=grader,
    )


def match_groups(
    groups: Sequence[AnswerGroup],
    paces: Sequence[Pace],
    budgets: Sequence[int] = (),
    *,
    time_limits_seconds: Sequence[float] = (),
    mapping: TimeMapping = "seconds",
    grader: str = "exact",
) -> MatchedResult:
    """As :func:`match`, of answers that are graded already."""
    if grader not in groups[0].changes:
        raise DataFrameError(
            f"no grader {grader!r}; there are {', '.join(sorted(groups[0].changes))}"
        )
    quantizations = order_quantizations({g.quantization for g in groups})
    sources = _by_source(paces)
    tables: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("matched", "budgets", "best", "crossovers")
    }
    for source, by_quantization in sources.items():
        curves = [
            draw_curve(group, by_quantization[group.quantization], mapping, grader)
            for quantization in quantizations
            for group in groups
            if group.quantization == quantization and quantization in by_quantization
        ]
        if not curves:
            continue
        limits = np.array(sorted(set(time_limits_seconds) or time_limits(curves)))
        for name, rows in _rows_of(curves, limits, budgets).items():
            tables[name] += [{"latency_source": source, **row} for row in rows]
    if not tables["best"]:
        raise DataFrameError(
            "no latency belongs to any quantization of the answers: "
            f"{', '.join(sorted({p.quantization for p in paces})) or 'none'} against "
            f"{', '.join(quantizations)}",
            next_step="measure the quantizations that the answers come from",
        )
    ordered = [g for q in quantizations for g in groups if g.quantization == q]
    return MatchedResult(
        matched=make_table(tables["matched"], MATCHED),
        budgets=make_table(tables["budgets"], BUDGETS),
        best=make_table(tables["best"], BEST),
        crossovers=make_table(tables["crossovers"], CROSSOVERS),
        scores=make_table(map(score_row, ordered), SCORES),
        tasks=make_table((row for group in ordered for row in task_rows(group)), TASKS),
        mapping=mapping,
        grader=grader,
        notes=tuple(_missing_latencies(quantizations, sources)),
    )


def _rows_of(
    curves: Sequence[Curve], limits: Floats, budgets: Sequence[int]
) -> dict[str, list[dict[str, object]]]:
    return {
        "matched": [row for curve in curves for row in step_rows(curve)],
        "budgets": [row for curve in curves for row in budget_rows(curve, budgets)],
        "best": best_rows(curves, limits),
        "crossovers": crossover_rows(curves, limits),
    }


def order_quantizations(names: set[str] | Sequence[str]) -> list[str]:
    """Quantizations from few bits to many, as far as their names tell: Q2_K, Q4_0, ..., F16."""
    sizes = {"XXS": 0, "XS": 1, "S": 2, "M": 4, "L": 5, "XL": 6}

    def position(name: str) -> tuple[float, int, str]:
        upper = name.upper()
        match = re.search(r"\d+", upper)
        bits = float(match.group()) if match else 99.0
        size = sizes.get(upper.rpartition("_")[2], 3)
        return bits, size, upper

    return sorted(names, key=position)


def _by_source(paces: Sequence[Pace]) -> dict[str, dict[str, Pace]]:
    sources: dict[str, dict[str, Pace]] = {}
    for pace in paces:
        members = sources.setdefault(pace.source, {})
        if pace.quantization in members:
            raise DataFrameError(f"two {pace.source} latencies for {pace.quantization}")
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
