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
    "strategy",
    "accuracy (95 %)",
    "runner-up",
    "difference",
    "worse",
    "cannot be told apart",
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
    from edgequant.report.words import nothing_right

    nothing = nothing_right(result.scores, result.matched)
    if nothing is not None:
        echo(nothing)
        _print_notes(result)
        return
    best = records(result.best)
    sources = list(dict.fromkeys(row["latency_source"] for row in best))
    for source in sources:
        of_source = [row for row in best if row["latency_source"] == source]
        print_table(
            _COLUMNS,
            [_best_row(row, marked or {}) for row in of_source],
            title=f"Best choices, {source_label(source)}",
        )
    for source in sources:
        _print_crossovers(result, source, source_label(source))
    _print_notes(result)


def _print_crossovers(result: MatchedResult, source: str, source_label: str) -> None:
    from edgequant.core.tables import records
    from edgequant.report.crossings import describe_crossovers, overall, sure_crossovers

    sure = overall(sure_crossovers(records(result.crossovers), source))
    steps = [row for row in records(result.matched) if row["latency_source"] == source]
    echo(f"Crossovers, {source_label}:")
    for sentence in describe_crossovers(sure, steps) or ["none beyond chance"]:
        echo(f"  {sentence}")


def _print_notes(result: MatchedResult) -> None:
    for note in result.notes:
        echo(f"Note: {note}")


def _best_row(row: Mapping[str, Any], marked: Mapping[str, str]) -> Sequence[object]:
    from edgequant.report.advice import names
    from edgequant.report.style import percent, tick_duration

    within = tick_duration(row["time_limit_seconds"])
    if row["quantization"] is None:
        return [within, "nothing answers", *[None] * (len(_COLUMNS) - 2)]
    return [
        within,
        marked.get(row["quantization"], row["quantization"]),
        row["prompt"],
        _strategy(row),
        f"{percent(row['accuracy'])}\n({_span(row, 'accuracy')})",
        row["runner_up"] or "",
        "" if row["difference"] is None else _difference(row),
        ", ".join(names(row["worse"])),
        ", ".join(names(row["not_distinguishable_from"])),
    ]


def _strategy(row: Mapping[str, Any]) -> str:
    if row["budget_tokens"] is None:
        return str(row["strategy"])
    return f"{row['strategy']} {row['budget_tokens']}"


def _difference(row: Mapping[str, Any]) -> str:
    from edgequant.report.style import points

    return f"{points(row['difference'])}\n({_span(row, 'difference')})"


def _span(row: Mapping[str, Any], name: str) -> str:
    from edgequant.report.style import points

    return f"{points(row[f'{name}_low'])} to {points(row[f'{name}_high'])}"
