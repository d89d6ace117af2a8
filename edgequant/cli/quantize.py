"""``edgequant quantize``: from a Hugging Face model to quantized GGUF files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from edgequant.cli.output import JSON_OPTION, LARGEST_COUNT, echo, print_json, print_table

if TYPE_CHECKING:
    from edgequant.models.calibration import Calibration
    from edgequant.models.variant import Variant

DEFAULT_TYPES = ["Q2_K", "Q4_K_M", "Q8_0"]


def command(
    model: str = typer.Argument(
        ...,
        help="Hugging Face folder (config.json, weights, tokenizer), or the id of a model on a "
        "hub: org/name or org/name@revision, which is pulled.",
        metavar="MODEL",
    ),
    types: list[str] = typer.Option(
        [],
        "--type",
        "-t",
        help="Quantization as llama-quantize names it; give it once for each type. "
        "F16 or BF16 stands for the unquantized model. By default, where no variant is given, "
        "Q2_K, Q4_K_M and Q8_0.",
        metavar="TYPE",
    ),
    variants: list[str] = typer.Option(
        [],
        "--variant",
        help="A variant by its steps, the first of them applied to the 16-bit file; once for each.",
        metavar="NAME=STEP,STEP",
    ),
    calibration_texts: list[Path] = typer.Option(
        [],
        "--calibration-text",
        help="UTF-8 text for steps that look at the model's numbers; once for each.",
        metavar="FILE",
    ),
    calibration_questions: Path | None = typer.Option(
        None,
        "--calibration-questions",
        help="Questions with worked answers for the same, in the model's own chat form.",
        metavar="FILE",
    ),
    calibration_prompt: str = typer.Option(
        "cot", "--calibration-prompt", help="How they are asked: a prompt's name or path."
    ),
    calibration_tokens: int = typer.Option(
        16384,
        "--calibration-tokens",
        min=2,
        max=LARGEST_COUNT,
        help="At most so many tokens of both are read.",
    ),
    output_type: Literal["auto", "f16", "bf16"] = typer.Option(
        "auto", "--output-type", help="Type of the unquantized GGUF; auto keeps bfloat16."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Also put the files into this folder (hard links where possible)."
    ),
    json: bool = JSON_OPTION,
) -> None:
    """Convert a Hugging Face model to GGUF, check its tokenizer, and quantize it.

    Example: edgequant quantize ./my-model --type Q2_K --type Q8_0 --out gguf
    """
    from edgequant.core.artefact import Store
    from edgequant.models.make import make_models
    from edgequant.models.publish import publish
    from edgequant.models.pull.pull import local_or_pulled
    from edgequant.models.pull.space import Conversion

    # What is wrong with the input is said before the tools are built, which can take minutes.
    wanted = variants_named(types or ([] if variants else DEFAULT_TYPES), variants)
    calibration = calibration_of(
        calibration_texts, calibration_questions, calibration_prompt, calibration_tokens
    )
    store = Store()
    folder = local_or_pulled(model, store=store, conversion=Conversion(store.root, wanted))
    from edgequant.build.build import build

    models = make_models(
        folder.path,
        wanted,
        host=build("host"),
        output_type=output_type,
        calibration=calibration,
    )
    paths = publish(models, out) if out is not None else {f.name: f.path for f in models}
    if json:
        print_json(
            {
                "model": models.name,
                "base": str(models.base.path) if models.base is not None else None,
                "tokenizer_check": models.tokenizer_check,
                "notes": models.notes,
                "models": [
                    {**row.as_dict(), "path": str(paths[row.file.name])} for row in models.table
                ],
            }
        )
        return
    print_table(
        ["quantization", "bytes", "bits per weight", "tensors", "SHA-256"],
        [
            (
                row.marked_name,
                row.file.bytes,
                f"{row.file.bits_per_weight:.2f}",
                row.file.contents.describe(),
                row.file.sha256[:16],
            )
            for row in models.table
        ],
        title=models.name,
    )
    for note in models.notes:
        echo(f"Note: {note}")
    # Whole, and in the form that `sha256sum --check` reads.
    for file in models:
        echo(f"{file.sha256}  {paths[file.name]}")


def variants_named(types: Sequence[str], variants: Sequence[str]) -> list[Variant]:
    """The variants that options name: types, each once, and those that are named by their steps."""
    from edgequant.models.variant import Variant

    return [*map(Variant.of_type, dict.fromkeys(types)), *map(_variant_of, variants)]


def _variant_of(text: str) -> Variant:
    from edgequant.models.variant import Variant

    name, equals, steps = text.partition("=")
    if not (name and equals and steps):
        raise typer.BadParameter(f"--variant {text!r} is not of the form NAME=STEP,STEP")
    return Variant.of_steps(name, steps.split(","))


def calibration_of(
    texts: list[Path], questions: Path | None, prompt: str, tokens: int
) -> Calibration | None:
    """What the options of calibration name; None where none is given."""
    if not texts and questions is None:
        return None
    from edgequant.answers.calibration import load_calibration

    return load_calibration(texts, questions, prompt=prompt, tokens=tokens)
