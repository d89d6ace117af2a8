"""``edgequant match``: accuracy at equal seconds, from answers and latencies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgequant.cli.match_explain import explain_answers
from edgequant.cli.matched_output import print_matched
from edgequant.cli.output import JSON_OPTION, LARGEST_COUNT, echo, print_json

if TYPE_CHECKING:
    from edgequant.latency.pace import Pace
    from edgequant.matching.match import MatchedResult

ANSWERS_OPTION = typer.Option(..., "--answers", help="answers.parquet of a run.")
QUESTIONS_OPTION = typer.Option(
    ..., "--questions", help="questions.parquet of a run, or the JSONL file that was asked."
)
LATENCY_OPTION = typer.Option(None, "--latency", help="latency.parquet of a run; repeatable.")
STUDY_OPTION = typer.Option(False, "--study", help="Also under the study's recorded seconds.")
BUDGET_OPTION = typer.Option(
    None,
    "--budget",
    min=1,
    max=LARGEST_COUNT,
    help="Cut answers after so many tokens in budgets.csv; repeatable.",
)
LIMIT_OPTION = typer.Option(
    None, "--time-limit", min=0.0, max=1e9, help="A time limit in seconds; repeatable."
)
MAPPING_OPTION = typer.Option(
    "seconds", "--mapping", help="seconds (prompt and tokens) or ratio (the study's: tokens alone)."
)
GRADER_OPTION = typer.Option(
    "exact", "--grader", help="Whose verdicts count: exact, lenient, qwen or math_verify."
)
OUT_OPTION = typer.Option(None, "--out", help="Folder for the CSV files.")
EXPLAIN_OPTION = typer.Option(
    False, "--explain", help="Only list where graders differ on the answers, and why."
)
EXPLAIN_TOKENS_OPTION = typer.Option(
    None, "--explain-tokens", min=1, max=LARGEST_COUNT, help="Of each answer, only its first ones."
)
EXPLAIN_ROWS_OPTION = typer.Option(
    40, "--explain-rows", min=1, max=10_000, help="How many differences are listed at most."
)


def command(
    answers: Path = ANSWERS_OPTION,
    questions: Path = QUESTIONS_OPTION,
    latency: list[Path] | None = LATENCY_OPTION,
    out: Path | None = OUT_OPTION,
    study: bool = STUDY_OPTION,
    budget: list[int] | None = BUDGET_OPTION,
    time_limit: list[float] | None = LIMIT_OPTION,
    mapping: str = MAPPING_OPTION,
    grader: str = GRADER_OPTION,
    explain: bool = EXPLAIN_OPTION,
    explain_tokens: int | None = EXPLAIN_TOKENS_OPTION,
    explain_rows: int = EXPLAIN_ROWS_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Grade answers at every token and join them with the seconds of each quantization.

    Writes matched.csv, budgets.csv, best.csv, crossovers.csv, scores.csv and tasks.csv.

    Example: edgequant match --answers answers.parquet --questions questions.parquet
    --latency latency.parquet --out matched
    """
    if explain or explain_tokens is not None:
        explain_answers(answers, questions, explain_tokens, explain_rows, as_json)
        return
    if mapping not in ("seconds", "ratio"):
        raise typer.BadParameter(f"{mapping!r} is neither 'seconds' nor 'ratio'")
    _check_grader(grader)
    if not latency and not study:
        raise typer.BadParameter("give --latency FILE, or --study", param_hint="--latency")
    if out is None:
        raise typer.BadParameter("give --out DIR", param_hint="--out")

    from edgequant.answers.table import read_questions_table
    from edgequant.core.progress import task
    from edgequant.core.schemas import ANSWERS
    from edgequant.core.tables import read_table
    from edgequant.latency.pace import study_paces
    from edgequant.matching.files import write_matched
    from edgequant.matching.match import match

    paces = [pace for path in latency or [] for pace in _paces(path)]
    if study:
        paces += study_paces()
    frame, gold = read_table(answers, ANSWERS), read_questions_table(questions)
    with task("Grading and matching"), _about(answers):
        result = match(
            frame,
            gold,
            paces,
            budget or (),
            time_limits_seconds=time_limit or (),
            mapping="ratio" if mapping == "ratio" else "seconds",
            grader=grader,
        )
    paths = write_matched(out, result)
    if as_json:
        print_json(_as_dict(result, paths))
    else:
        print_matched(result, _source_label)
        for path in paths:
            echo(f"Written: {path}")


def _check_grader(name: str) -> None:
    from edgequant.matching.graders.registry import INTEGER, by_role

    if name not in (known := by_role(INTEGER)):
        raise typer.BadParameter(
            f"no grader {name!r}; there are {', '.join(known)}", param_hint="--grader"
        )


def _paces(path: Path) -> list[Pace]:
    from edgequant.latency.fit import fit_paces
    from edgequant.latency.frame import read_latency

    with _about(path):
        return fit_paces(read_latency(path))


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """Pure functions know columns, not files: name the file in what they complain about."""
    from edgequant.core.errors import DataFrameError

    try:
        yield
    except DataFrameError as error:
        if error.subject is not None:
            raise
        raise DataFrameError(error.cause, subject=path, next_step=error.next_step) from error


def _source_label(source: str) -> str:
    from edgequant.report.clocks import seconds_words

    return seconds_words(source)


def _as_dict(result: MatchedResult, paths: list[Path]) -> dict[str, object]:
    from edgequant.core.tables import records
    from edgequant.report.words import nothing_right

    return {
        "nothing_right": nothing_right(result.scores, result.matched),
        "mapping": result.mapping,
        "grader": result.grader,
        "best": records(result.best),
        "crossovers": records(result.crossovers),
        "scores": records(result.scores),
        "notes": list(result.notes),
        "files": [str(path) for path in paths],
    }
