"""``edgequant quality``: how far variants lie from the 16-bit model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from edgequant.cli.output import JSON_OPTION, LARGEST_COUNT, echo, print_json, print_table
from edgequant.cli.quantize import DEFAULT_TYPES, calibration_of, variants_named

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.build.build import Build
    from edgequant.models.calibration import Calibration
    from edgequant.models.steps.convert import OutputType
    from edgequant.models.variant import Variant

REFERENCE = "reference"


def command(
    model: Path = typer.Argument(
        ..., help="Hugging Face folder, or the 16-bit GGUF as the reference.", metavar="MODEL"
    ),
    types: list[str] = typer.Option(
        [],
        "--type",
        "-t",
        help="Quantization to make of the folder; once for each.",
        metavar="TYPE",
    ),
    variants: list[str] = typer.Option(
        [],
        "--variant",
        help="A variant's GGUF, or the steps that make it of the folder; once for each.",
        metavar="NAME=GGUF|STEP,STEP",
    ),
    output_type: Literal["auto", "f16", "bf16"] = typer.Option(
        "auto", "--output-type", help="Type of a folder's 16-bit GGUF; auto keeps bfloat16."
    ),
    texts: list[Path] = typer.Option(
        [], "--text", help="UTF-8 text to compare on; once for each.", metavar="FILE"
    ),
    answers: Path | None = typer.Option(
        None, "--answers", help="answers.parquet of a run, to compare on the task's answers."
    ),
    answers_of: str | None = typer.Option(
        None, "--answers-of", help="Whose answers; by default the reference's own."
    ),
    limit: int = typer.Option(
        200, "--limit", min=1, max=LARGEST_COUNT, help="At most so many answers."
    ),
    questions: Path | None = typer.Option(
        None,
        "--questions",
        help="Questions with worked answers, in the model's own chat form, to compare on.",
        metavar="FILE",
    ),
    prompt: str = typer.Option(
        "cot", "--prompt", help="How these, and those of the calibration, are asked."
    ),
    tokens: int = typer.Option(
        8192, "--tokens", min=2, max=LARGEST_COUNT, help="At most so many tokens of the questions."
    ),
    calibration_texts: list[Path] = typer.Option(
        [], "--calibration-text", help="As of quantize, for --variant's steps.", metavar="FILE"
    ),
    calibration_questions: Path | None = typer.Option(
        None, "--calibration-questions", help="As of quantize.", metavar="FILE"
    ),
    calibration_tokens: int = typer.Option(
        16384, "--calibration-tokens", min=2, max=LARGEST_COUNT, help="As of quantize."
    ),
    calibration: list[Path] = typer.Option(
        [],
        "--calibration",
        help="Text that a variant was calibrated on; what overlaps with it is refused.",
        metavar="FILE",
    ),
    context: int = typer.Option(
        512, "--context", min=4, max=LARGEST_COUNT, help="Tokens of a text's window."
    ),
    threads: int | None = typer.Option(
        None, min=1, max=LARGEST_COUNT, help="CPU threads; by default one for each core."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Folder for quality.csv and a figure for each text."
    ),
    json: bool = JSON_OPTION,
) -> None:
    """Compare variants with their 16-bit model: perplexity, divergence, equal top tokens.

    Example: edgequant quality ./my-model --type Q2_K --type Q4_K_M --text wiki.txt
    """
    if not texts and answers is None and questions is None:
        raise typer.BadParameter("nothing to compare on: give --text, --questions or --answers")
    if types and not model.is_dir():
        raise typer.BadParameter("--type is made of a folder; give files with --variant NAME=GGUF")
    named, stepped = _named(variants, model.is_dir())
    if not model.is_dir() and not named:
        raise typer.BadParameter("nothing to compare: give --variant NAME=GGUF")

    from edgequant.answers.calibration import load_chats
    from edgequant.build.build import build
    from edgequant.core.tables import records
    from edgequant.quality.inputs import (
        answers_text,
        chats_text,
        cut_texts,
        load_answers,
        load_texts,
        refuse_calibration,
        refuse_calibration_texts,
    )

    # What is wrong with the input is said before the tools are built, which can take minutes.
    contents, calibrated = load_texts(texts), load_texts(calibration)
    rows = load_answers(answers) if answers is not None else None
    chats = load_chats(questions, prompt=prompt) if questions is not None else None
    wanted = variants_named(types or ([] if named or stepped else DEFAULT_TYPES), stepped)
    steps_calibration = calibration_of(
        calibration_texts, calibration_questions, prompt, calibration_tokens
    )
    from edgequant.models.ready import take_in
    from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary
    from edgequant.quality.measure import measure_quality

    host = build("host")
    made = _made_of(model, wanted, host, output_type, steps_calibration)
    models = take_in({**made, **named}, name=model.stem)
    reference = models[REFERENCE]
    with Vocabulary(reference.path, host.binary(LIBRARY_NAME)) as vocabulary:
        used = cut_texts(contents, vocabulary, context=context)
        if rows is not None:
            used.append(answers_text(rows, reference, vocabulary, whose=answers_of, limit=limit))
        if chats is not None:
            for name, alone in ((str(questions), False), (f"answers of {questions}", True)):
                used.append(
                    chats_text(chats, vocabulary, name=name, limit=tokens, answers_only=alone)
                )
        if steps_calibration is not None:
            refuse_calibration(steps_calibration, used, vocabulary)
        refuse_calibration_texts(calibrated, used, vocabulary)
    compared = [file for file in models if file.name != REFERENCE]
    table = measure_quality(reference, compared, used, host=host, threads=threads)
    results = records(table)
    written = _write(table, out) if out is not None else []
    if json:
        print_json({"reference": str(reference.path), "rows": results, "files": written})
        return
    for text in dict.fromkeys(row["text"] for row in results):
        _print([row for row in results if row["text"] == text])
    for path in written:
        echo(path)


def _named(variants: Sequence[str], folder: bool) -> tuple[dict[str, Path], list[str]]:
    """Variants that are files, by their names, and those that are made of the folder."""
    files: dict[str, Path] = {}
    stepped = []
    for text in variants:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name == REFERENCE:
            raise typer.BadParameter(f"--variant {text!r} is not of the form NAME=GGUF")
        if folder and not value.endswith(".gguf") and not Path(value).exists():
            stepped.append(text)
        else:
            files[name] = Path(value)
    return files, stepped


def _made_of(
    model: Path,
    variants: Sequence[Variant],
    host: Build,
    output_type: OutputType,
    calibration: Calibration | None,
) -> dict[str, Path]:
    """The reference, and what is made of a folder."""
    if not model.is_dir():
        return {REFERENCE: model}
    from edgequant.models.make import make_models

    made = make_models(model, variants, host=host, output_type=output_type, calibration=calibration)
    assert made.base is not None
    return {REFERENCE: made.base.path, **made.paths}


def _write(table: pd.DataFrame, out: Path) -> list[str]:
    from edgequant.core.files import write_text_whole
    from edgequant.core.schemas import QUALITY
    from edgequant.core.tables import records, write_csv
    from edgequant.report.figures.canvas import drawing_settings
    from edgequant.report.figures.quality import quality_figures

    with drawing_settings():
        figures = list(quality_figures(records(table)))
    written = [out / QUALITY.file]
    out.mkdir(parents=True, exist_ok=True)
    write_csv(table, written[0], QUALITY)
    for figure in figures:
        written.append(out / f"{figure.name}.svg")
        write_text_whole(written[-1], figure.svg)
    return [str(path) for path in written]


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    from edgequant.report.style import significant

    first = rows[0]
    print_table(
        [
            "quantization", "bytes", "bits per weight", "perplexity", "ratio",
            "mean divergence", "median", "99 %", "same top", "front",
        ],
        [
            (
                row["quantization"],
                row["bytes"],
                f"{row['bits_per_weight']:.2f}",
                _with_error(row, "perplexity", ".3f"),
                _with_error(row, "perplexity_ratio", ".4f"),
                _divergence(row),
                significant(row["median_divergence"]),
                significant(row["p99_divergence"]),
                _with_error(row, "same_top", ".4f"),
                "yes" if row["on_front"] else "",
            )
            for row in rows
        ],
        title=f"{first['text']}: {first['tokens']} tokens in {first['passages']} passages; "
        f"perplexity of the reference {_with_error(first, 'reference_perplexity', '.3f')}",
    )  # fmt: skip


def _divergence(row: Mapping[str, Any]) -> str:
    from edgequant.report.style import significant

    error = row["divergence_error"]
    return significant(row["divergence"]) + ("" if error is None else f" ± {significant(error, 2)}")


def _with_error(row: Mapping[str, Any], name: str, form: str) -> str:
    error = row[f"{name}_error"]
    return format(row[name], form) + ("" if error is None else f" ± {format(error, form)}")
