"""The join against a second one, written in plain loops."""

from __future__ import annotations

from collections import defaultdict

import pytest

from edgequant.core.tables import records
from edgequant.latency.pace import Pace
from edgequant.matching.match import match
from tests.matching import recomputed
from tests.matching.synthetic_answers import synthetic_answers

PACES = {q: Pace(q, "measured", s, s / 4) for q, s in (("Q2_K", 1.0), ("Q8_0", 2.5))}


def test_curves_best_choices_and_intervals_come_out_the_same() -> None:
    answers, questions = synthetic_answers(
        120, skill={"Q2_K": 0.6, "Q8_0": 1.1}, prompts=("cot", "aav"), stated_budgets=()
    )
    result = match(answers, questions, list(PACES.values()))
    gold = {row["question_id"]: row["expected_answer"] for row in records(questions)}
    again: dict[tuple[object, ...], dict[str, recomputed.Steps]] = defaultdict(dict)
    whole: dict[tuple[object, ...], float] = defaultdict(float)
    columns = ("quantization", "prompt", "strategy", "budget_tokens")
    for row in records(answers):
        pace, key = PACES[row["quantization"]], tuple(row[name] for name in columns)
        name = row["question_id"]
        again[key][name] = recomputed.steps(row, gold[name], pace)
        whole[key] += recomputed.seconds(row, max(len(row["token_ids"]), 1), pace)

    found = defaultdict(list)
    for row in records(result.matched):
        found[tuple(row[name] for name in columns)].append((row["seconds"], row["accuracy"]))
    for key, members in again.items():
        expected = recomputed.curve(list(members.values()))
        assert found[key] == [(pytest.approx(s, rel=1e-12), k / 120) for s, k in expected], key

    quickest = sorted(again, key=lambda key: whole[key])
    by_quantization = {q: [again[k] for k in quickest if k[0] == q] for q in PACES}
    for row in records(result.best):
        limit = row["time_limit_seconds"] * (1 + 1e-12)
        honest = recomputed.honest_accuracy(by_quantization, list(gold), limit)
        assert (row["accuracy"] or 0.0) == float(honest), limit

    crossed = [r for r in records(result.crossovers) if r["confident"] and r["prompt"] == "cot"]
    assert crossed
    for row in crossed:
        sides = (
            list(
                again[
                    row[side], "cot", row["strategy"], 64 if row["strategy"] == "stated" else None
                ].values()
            )
            for side in ("first_quantization", "second_quantization")
        )
        ends = recomputed.interval(*sides, row["first_ahead_seconds"], row["second_ahead_seconds"])
        low, high = min(ends[0], row["seconds"]), max(ends[1], row["seconds"])
        assert (row["seconds_low"], row["seconds_high"]) == pytest.approx((low, high), rel=1e-9)
