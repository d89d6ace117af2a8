"""``edgequant match``: accuracy at equal seconds, from answers and latencies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgequant.cli.output import JSON_OPTION, print_json, print_table

if TYPE_CHECKING:
    import polars as pl

    from edgequant.evaluation.matching import MatchedResult

ANSWERS_OPTION = typer.Option(..., "--answers", help="answers.parquet of a run.")
LATENCY_OPTION = typer.Option(None, "--latency", help="latency.parquet of a run; repeatable.")
STUDY_OPTION = typer.Option(False, "--study", help="Also under the study's recorded seconds.")
BUDGET_OPTION = typer.Option(None, "--budget", min=1, help="A hard budget in tokens; repeatable.")
LIMIT_OPTION = typer.Option(None, "--within", min=0.0, help="A time limit in seconds; repeatable.")
MAPPING_OPTION = typer.Option(
    "seconds", "--mapping", help="seconds (prompt and tokens) or ratio (the study's: tokens alone)."
)
RESAMPLES_OPTION = typer.Option(1000, "--resamples", min=100, help="Of the bootstrap.")
SEED_OPTION = typer.Option(None, "--seed", min=0, help="Of the bootstrap.")
OUT_OPTION = typer.Option(..., "--out", help="Folder for the CSV files.")


def command(
    answers: Path = ANSWERS_OPTION,
    latency: list[Path] | None = LATENCY_OPTION,
    out: Path = OUT_OPTION,
    study: bool = STUDY_OPTION,
    budget: list[int] | None = BUDGET_OPTION,
    within: list[float] | None = LIMIT_OPTION,
    mapping: str = MAPPING_OPTION,
    resamples: int = RESAMPLES_OPTION,
    seed: int | None = SEED_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Grade answers at every budget and join them with the seconds of each quantization.

    Writes matched.csv, best.csv, crossovers.csv and scores.csv.

    Example: edgequant match --answers answers.parquet --latency latency.parquet --out matched
    """
    if mapping not in ("seconds", "ratio"):
        raise typer.BadParameter(f"{mapping!r} is neither 'seconds' nor 'ratio'")
    if not latency and not study:
        raise typer.BadParameter("give --latency FILE, or --study", param_hint="--latency")

    from edgequant.core.progress import task
    from edgequant.evaluation.matched_files import write_matched
    from edgequant.evaluation.matching import SEED, match
    from edgequant.latency.frame import read_latency
    from edgequant.latency.model import from_summaries, study_models
    from edgequant.latency.statistics import summarize
    from edgequant.report.run import read_parquet

    models = [m for path in latency or [] for m in from_summaries(summarize(read_latency(path)))]
    if study:
        models += study_models()
    frame = read_parquet(answers)
    with task("Grading and matching"):
        result = match(
            frame,
            models,
            budget or (),
            time_limits_seconds=within or (),
            mapping="ratio" if mapping == "ratio" else "seconds",
            resamples=resamples,
            seed=SEED if seed is None else seed,
        )
    paths = write_matched(out, result)
    if as_json:
        print_json(_as_dict(result, paths))
    else:
        _print(result, paths)


def _as_dict(result: MatchedResult, paths: list[Path]) -> dict[str, object]:
    return {
        "mapping": result.mapping,
        "best": result.best.to_dicts(),
        "crossovers": result.crossovers.to_dicts(),
        "scores": result.scores.to_dicts(),
        "notes": list(result.notes),
        "files": [str(path) for path in paths],
    }


def _print(result: MatchedResult, paths: list[Path]) -> None:
    from edgequant.report.words import describe_crossovers, label

    for source in result.best["latency_source"].unique(maintain_order=True):
        _print_best(result.best, source, label(source))
        typer.echo(f"Crossovers ({label(source)}):")
        for sentence in describe_crossovers(result.crossovers, source) or ["none beyond chance"]:
            typer.echo(f"  {sentence}")
    for note in result.notes:
        typer.echo(f"Note: {note}")
    for path in paths:
        typer.echo(f"Written: {path}")


def _print_best(best: pl.DataFrame, source: str, label: str) -> None:
    from edgequant.report.style import duration, percent, tick_duration

    rows = []
    for row in best.filter(best["latency_source"] == source).iter_rows(named=True):
        within = tick_duration(row["time_limit_seconds"])
        if row["quantization"] is None:
            rows.append([within, "nothing answers", *[None] * 6])
            continue
        budget = "no limit" if row["budget_tokens"] is None else str(row["budget_tokens"])
        rows.append(
            [
                within,
                row["quantization"],
                row["prompt"],
                f"{budget} stated" if row["stated"] else budget,
                duration(row["seconds"]),
                percent(row["accuracy"]),
                f"{percent(row['accuracy_low'])} to {percent(row['accuracy_high'])}",
                row["not_distinguishable_from"],
            ]
        )
    print_table(
        [
            "within",
            "quantization",
            "prompt",
            "budget",
            "takes",
            "right",
            "95 % interval",
            "as good",
        ],
        rows,
        title=f"Best choices, {label} seconds",
    )
