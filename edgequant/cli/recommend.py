"""``edgequant recommend``: what to take for a time limit, and the command that runs just that."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.matching.recommend import Recommendation
    from edgequant.report.run import RunManifest

PROMPTS_FOLDER = "recommended"
"""Of a run folder: one prompt as the model gets it for each choice that was recommended."""

SECONDS_OPTION = typer.Option(
    ..., "--seconds", min=0.0, max=1e9, help="Time limit of one answer; repeatable."
)
SOURCE_OPTION = typer.Option(
    None, "--source", help="measured, emulated, predicted or study; by default each there is."
)


def command(
    run: Path = typer.Argument(metavar="RUN_DIR", help="Folder that sweep or demo has written."),
    seconds: list[float] = SECONDS_OPTION,
    source: str | None = SOURCE_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Name the best quantization, prompt and strategy for each time limit, and what it is worth.

    The accuracy is what is to be expected on new questions: each question is answered by the choice
    that the others make. The prompt that the command needs is written into the run folder.

    Example: edgequant recommend runs/demo --seconds 0.5 --seconds 2
    """
    from edgequant.core.errors import DataFrameError
    from edgequant.core.progress import task
    from edgequant.matching.groups import group_answers
    from edgequant.matching.recommend import recommend
    from edgequant.report.run import load_run, refresh_file_records

    inputs = load_run(run)
    assert inputs.answers is not None and inputs.questions is not None
    paces = [p for p in inputs.manifest.paces if source in (None, p.source)]
    if not paces:
        known = ", ".join(dict.fromkeys(p.source for p in inputs.manifest.paces))
        raise DataFrameError(f"the run has no {source} seconds, but {known}", subject=run)
    with task("Grading and matching"):
        groups = group_answers(inputs.answers, inputs.questions, [inputs.manifest.match.grader])
        found = recommend(groups, paces, sorted(set(seconds)), inputs.manifest.match.grader)
    commands = [_command(run, inputs.manifest, inputs.answers, choice) for choice in found]
    refresh_file_records(run)
    if as_json:
        print_json(
            [
                {**choice.as_dict(), "command": line}
                for choice, line in zip(found, commands, strict=True)
            ]
        )
        return
    for choice, line in zip(found, commands, strict=True):
        _print(choice, line)


def _print(choice: Recommendation, line: str | None) -> None:
    from edgequant.report.clocks import seconds_words
    from edgequant.report.style import duration, percent

    echo(f"Within {duration(choice.seconds)}, {seconds_words(choice.latency_source)}:")
    if choice.quantization is None:
        echo("  nothing is right so soon")
        return
    budget = "" if choice.budget_tokens is None else f", budget of {choice.budget_tokens} tokens"
    echo(
        f"  {choice.quantization}, prompt “{choice.prompt}”, {choice.strategy}{budget}, "
        f"at most {choice.max_tokens} tokens"
    )
    echo(
        f"  right: {percent(choice.accuracy)} "
        f"({percent(choice.accuracy_low)} to {percent(choice.accuracy_high)}), "
        f"{choice.n} questions"
    )
    if choice.runner_up is not None:
        echo(f"  {_runner_up(choice)}")
    for words, names in (
        ("worse beyond chance", choice.worse),
        ("cannot be told apart", choice.not_distinguishable_from),
    ):
        if names:
            echo(f"  {words}: {', '.join(names)}")
    if line is not None:
        echo(f"  {line}")


def _runner_up(choice: Recommendation) -> str:
    def points(share: float | None) -> str:
        return "–" if share is None else f"{share * 100:+.1f}"

    words = (
        f"next best: {choice.runner_up}, {points(choice.difference)} points "
        f"({points(choice.difference_low)} to {points(choice.difference_high)})"
    )
    if choice.questions_to_separate is None:
        return words
    return f"{words}; some {choice.questions_to_separate} questions would tell them apart"


def _command(
    run: Path, manifest: RunManifest, answers: pd.DataFrame, choice: Recommendation
) -> str | None:
    """What brings the choice to its board and runs one of its questions there; None: no board."""
    board = _board(manifest, choice.latency_source)
    if board is None or choice.quantization is None:
        return None
    prompt = _write_prompt(run, answers, choice)
    words = [
        *("edgequant", "measure", board, _model(manifest, choice.quantization)),
        *("--prompt-file", str(prompt), "-n", str(max(choice.max_tokens or 2, 2))),
        *_measure_options(manifest),
    ]
    return shlex.join(words)


def _board(manifest: RunManifest, source: str) -> str | None:
    if source == manifest.board.latency_source:
        return manifest.board.name
    what_ifs = manifest.experiment.parameters.get("what_if")
    if source != "predicted" or not isinstance(what_ifs, Sequence):
        return None
    return next(
        (str(w["board"]) for w in what_ifs if isinstance(w, Mapping) and w.get("board")), None
    )


def _model(manifest: RunManifest, quantization: str) -> str:
    """The model's file where the cache still has it, else its name."""
    from edgequant.models.model_file import find_file

    record = next(m for m in manifest.models if m.quantization == quantization)
    found = find_file(record.sha256)
    return str(found) if found is not None else record.file


def _measure_options(manifest: RunManifest) -> list[str]:
    measure = manifest.experiment.parameters.get("measure")
    if not isinstance(measure, Mapping):
        return []
    options = [] if measure.get("repack", True) else ["--no-repack"]
    if measure.get("threads") is not None:
        options += ["--threads", str(measure["threads"])]
    for key, option in (("cache_type_k", "--cache-type-k"), ("cache_type_v", "--cache-type-v")):
        if measure.get(key, "f16") != "f16":
            options += [option, str(measure[key])]
    return options


def _write_prompt(run: Path, answers: pd.DataFrame, choice: Recommendation) -> Path:
    from edgequant.core.files import write_text_whole
    from edgequant.core.tables import records
    from edgequant.matching.groups import TASKS_JOINED

    same = (
        (answers["quantization"] == choice.quantization)
        & answers["prompt"].isin(str(choice.prompt).split(TASKS_JOINED))
        & (answers["strategy"] == choice.strategy)
    )
    if choice.budget_tokens is not None:
        same &= answers["budget_tokens"] == choice.budget_tokens
    (row,) = records(answers[same].sort_values("question_id").head(1))
    told = "" if choice.budget_tokens is None else f"-{choice.budget_tokens}"
    strategy = str(choice.strategy).replace(":", "-")
    folder = run / PROMPTS_FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{choice.prompt}-{strategy}{told}.txt"
    write_text_whole(path, row["rendered_prompt"] or "")
    return path
