"""What ``match``, ``sweep`` and ``demo`` print of a match: best choices, crossovers, notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgequant.cli.output import echo, print_table

if TYPE_CHECKING:
    from edgequant.matching.match import MatchedResult

_COLUMNS = (
    "within",
    "quantization",
    "prompt",
    "budget",
    "seconds",
    "accuracy",
    "95 % interval",
    "as good",
)


def print_matched(
    result: MatchedResult,
    source_label: Callable[[str], str],
    marked: Mapping[str, str] | None = None,
) -> None:
    """The best choice for each time limit, the crossovers, and what a reader must know.

    Args:
        result: what matching found.
        source_label: what the seconds of a latency source are, in words.
        marked: quantization to its name as it stands in a row, where it is known what files hold.
    """
    from edgequant.core.tables import records
    from edgequant.report.words import describe_crossovers, nothing_right

    nothing = nothing_right(result.scores, result.matched)
    if nothing is not None:
        echo(nothing)
        _print_notes(result)
        return
    best = records(result.best)
    crossovers, matched = records(result.crossovers), records(result.matched)
    sources = list(dict.fromkeys(row["latency_source"] for row in best))
    for source in sources:
        of_source = [row for row in best if row["latency_source"] == source]
        _print_best(of_source, source_label(source), marked or {})
    for source in sources:
        echo(f"Crossovers, {source_label(source)}:")
        sentences = describe_crossovers(crossovers, source, matched)
        for sentence in sentences or ["none beyond chance"]:
            echo(f"  {sentence}")
    _print_notes(result)


def _print_notes(result: MatchedResult) -> None:
    for note in result.notes:
        echo(f"Note: {note}")


def _print_best(
    best: Sequence[dict[str, Any]], source_label: str, marked: Mapping[str, str]
) -> None:
    print_table(
        _COLUMNS,
        [_best_row(row, marked) for row in best],
        title=f"Best choices, {source_label}",
    )


def _best_row(row: dict[str, Any], marked: Mapping[str, str]) -> list[object]:
    from edgequant.answers.strategies.truncate import NAME as TRUNCATE
    from edgequant.report.style import duration, percent, tick_duration

    within = tick_duration(row["time_limit_seconds"])
    if row["quantization"] is None:
        return [within, "nothing answers", *[None] * (len(_COLUMNS) - 2)]
    budget = "no limit" if row["budget_tokens"] is None else str(row["budget_tokens"])
    return [
        within,
        marked.get(row["quantization"], row["quantization"]),
        row["prompt"],
        budget if row["strategy"] == TRUNCATE else f"{budget} {row['strategy']}",
        duration(row["seconds"]),
        percent(row["accuracy"]),
        f"{percent(row['accuracy_low'])} to {percent(row['accuracy_high'])}",
        row["not_distinguishable_from"] or "",
    ]
