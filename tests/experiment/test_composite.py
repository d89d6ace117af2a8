"""The composite score of a run's variants, from its tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgequant.core.schemas import TASKS
from edgequant.core.tables import make_table
from edgequant.experiment.composite import composite_records
from edgequant.matching.composite import CompositeSection


def tasks(*rows: tuple[str, str, str, float]) -> Any:
    return make_table(
        (
            {
                "quantization": quantization,
                "prompt": prompt,
                "strategy": "truncate",
                "task": task,
                "accuracy": accuracy,
                "accuracy_low": 0.0,
                "accuracy_high": 1.0,
                "n": 10,
            }
            for quantization, prompt, task, accuracy in rows
        ),
        TASKS,
    )


def summary(name: str, ttft: float | None, tpot: float | None) -> Any:
    return SimpleNamespace(quantization=name, ttft_seconds=ttft, median_seconds=tpot)


FILES: Any = [SimpleNamespace(name="F16", bytes=1600), SimpleNamespace(name="Q4_0", bytes=400)]


def test_a_variant_counts_by_its_best_configuration_over_the_mean_of_the_tasks() -> None:
    table = tasks(
        ("F16", "cot", "gsm8k", 0.8),
        ("F16", "cot", "arc", 0.6),
        ("Q4_0", "cot", "gsm8k", 0.9),
        ("Q4_0", "cot", "arc", 0.1),
        ("Q4_0", "aav", "gsm8k", 0.6),
        ("Q4_0", "aav", "arc", 0.6),
    )
    weights = CompositeSection(accuracy=1, compression=1, ttft=0, tpot=0)
    timed = [summary("F16", 2.0, 0.4), summary("Q4_0", 1.0, 0.1)]
    base, variant = composite_records(weights, "F16", table, FILES, timed)
    assert base.score == pytest.approx((0.7 + 0.5) / 2)
    assert (variant.accuracy, variant.compression) == pytest.approx((0.6, 4.0))
    assert (variant.ttft_speedup, variant.tpot_speedup) == pytest.approx((2.0, 4.0))
    assert variant.score == pytest.approx((0.6 + 0.8) / 2)
    assert variant.tasks == {"gsm8k": 0.6, "arc": 0.6}


def test_what_was_not_timed_has_no_score_and_without_a_base_nobody_has() -> None:
    table = tasks(("F16", "cot", "", 0.8), ("Q4_0", "cot", "", 0.7))
    weights = CompositeSection()
    only_base = composite_records(weights, "F16", table, FILES, [summary("F16", 1.0, 1.0)])
    assert [record.quantization for record in only_base] == ["F16"]
    failed = [summary("F16", None, None), summary("Q4_0", 1.0, 1.0)]
    assert composite_records(weights, "F16", table, FILES, failed) == []
