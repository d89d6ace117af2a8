"""The composite score of each variant of a run, from what the run measured of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgequant.core.tables import records
from edgequant.matching.composite import CompositeSection, Relative, composite

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.latency.statistics import LatencySummary
    from edgequant.models.model_set import ModelSet
    from edgequant.report.run import CompositeRecord


def composite_records(
    weights: CompositeSection,
    base: str,
    tasks: pd.DataFrame,
    models: ModelSet,
    summaries: Sequence[LatencySummary],
) -> list[CompositeRecord]:
    """One record for each variant that was answered with and timed; none without a timed base.

    A variant's accuracies are those of its best configuration, over the mean of the tasks.

    Args:
        weights: of the four parts.
        base: name of the variant that all are set against.
        tasks: whole answers, task by task; see :data:`edgequant.core.schemas.TASKS`.
        models: the variants' files.
        summaries: of the board's measurement.
    """
    from edgequant.report.run import CompositeRecord

    timed = {s.quantization: s for s in summaries if s.median_seconds and s.ttft_seconds}
    relatives = {
        file.name: Relative(
            accuracies=_best_accuracies(tasks, file.name),
            file_bytes=file.bytes,
            ttft_seconds=timed[file.name].ttft_seconds or 0.0,
            tpot_seconds=timed[file.name].median_seconds or 0.0,
        )
        for file in models
        if file.name in timed
    }
    if base not in relatives:
        return []
    found = {name: composite(own, relatives[base], weights) for name, own in relatives.items()}
    return [
        CompositeRecord(
            quantization=name,
            base=base,
            score=score.score,
            accuracy=score.accuracy,
            compression=score.compression,
            ttft_speedup=score.ttft_speedup,
            tpot_speedup=score.tpot_speedup,
            tasks=dict(relatives[name].accuracies),
        )
        for name, score in found.items()
    ]


def _best_accuracies(tasks: pd.DataFrame, quantization: str) -> dict[str, float]:
    by_configuration: dict[tuple[object, ...], dict[str, float]] = {}
    for row in records(tasks[tasks["quantization"] == quantization]):
        key = (row["prompt"], row["strategy"], row["budget_tokens"])
        by_configuration.setdefault(key, {})[row["task"] or ""] = row["accuracy"]
    return max(by_configuration.values(), key=lambda shares: sum(shares.values()))
