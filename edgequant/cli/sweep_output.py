"""What ``sweep`` and ``demo`` print at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from edgequant.cli.output import print_table

if TYPE_CHECKING:
    import polars as pl

    from edgequant.pipeline.sweep import SweepResult


def print_result(result: SweepResult) -> None:
    """The best choice for each time limit, the crossovers, and where the report lies."""
    best = result.matched.best
    for source in best["latency_source"].unique(maintain_order=True):
        rows = best.filter(best["latency_source"] == source)
        print_table(
            ["within", "quantization", "prompt", "budget", "seconds", "accuracy", "95 % interval"],
            [_best_row(row) for row in rows.iter_rows(named=True)],
            title=f"Best choices, {source_label(result, source)}",
        )
    _print_crossovers(result)
    for note in result.matched.notes:
        typer.echo(f"Note: {note}")
    typer.echo(f"Report: {result.report}")


def source_label(result: SweepResult, source: str) -> str:
    """What the seconds of one latency source are, in words."""
    board = result.manifest.board.name
    return {
        "measured": f"seconds MEASURED on {board}",
        "emulated": f"seconds EMULATED on the board {board}",
        "predicted": "seconds PREDICTED, no board was measured",
        "study": "seconds of the STUDY's board (8 B model), these answers",
    }.get(source, source)


def _best_row(row: dict[str, Any]) -> list[object]:
    from edgequant.report.style import duration, percent, tick_duration

    if row["quantization"] is None:
        return [
            tick_duration(row["time_limit_seconds"]),
            "nothing answers",
            None,
            None,
            None,
            None,
            None,
        ]
    budget = "no limit" if row["budget_tokens"] is None else str(row["budget_tokens"])
    if row["stated"]:
        budget += " stated"
    return [
        tick_duration(row["time_limit_seconds"]),
        row["quantization"],
        row["prompt"],
        budget,
        duration(row["seconds"]),
        percent(row["accuracy"]),
        f"{percent(row['accuracy_low'])} to {percent(row['accuracy_high'])}",
    ]


def _print_crossovers(result: SweepResult) -> None:
    from edgequant.report.words import describe_crossovers

    crossovers: pl.DataFrame = result.matched.crossovers
    sources = result.matched.best["latency_source"].unique(maintain_order=True)
    for source in sources:
        sentences = describe_crossovers(crossovers, source)
        typer.echo(f"Crossovers, {source_label(result, source)}:")
        for sentence in sentences or ["none beyond chance"]:
            typer.echo(f"  {sentence}")
