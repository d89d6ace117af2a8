"""``edgequant quantize``: from a Hugging Face folder to quantized GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from edgequant.cli.output import JSON_OPTION, print_json, print_table

DEFAULT_TYPES = ["Q2_K", "Q4_K_M", "Q8_0"]


def command(
    model_folder: Path = typer.Argument(
        ..., help="Hugging Face folder: config.json, weights, tokenizer.", metavar="MODEL_FOLDER"
    ),
    types: list[str] = typer.Option(
        DEFAULT_TYPES,
        "--type",
        "-t",
        help="Quantization as llama-quantize names it; give it once for each type. "
        "F16 or BF16 stands for the unquantized model.",
        metavar="TYPE",
    ),
    output_type: Literal["auto", "f16", "bf16"] = typer.Option(
        "auto", "--output-type", help="Type of the unquantized GGUF; auto keeps bfloat16."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Also put the files into this folder (hard links where possible)."
    ),
    json: bool = JSON_OPTION,
) -> None:
    """Convert a Hugging Face folder to GGUF, check its tokenizer, and quantize it.

    Example: edgequant quantize ./my-model --type Q2_K --type Q8_0 --out gguf
    """
    from edgequant.models.folder import check_model_folder
    from edgequant.models.publish import publish
    from edgequant.models.steps.quantize import canonical_types, notes_of, quantize

    # What is wrong with the input is said before the tools are built, which can take minutes.
    wanted = canonical_types(types)
    check_model_folder(model_folder)
    from edgequant.build.build import build

    models = quantize(model_folder, wanted, host=build("host"), output_type=output_type)
    rows = models.table()
    paths = publish(models, out) if out is not None else {r.quantization: r.path for r in rows}
    if json:
        print_json(
            {
                "model": models.name,
                "base": str(models.base_gguf),
                "tokenizer_check": models.tokenizer_check,
                "notes": notes_of(rows),
                "models": [{**row.as_dict(), "path": str(paths[row.quantization])} for row in rows],
            }
        )
        return
    print_table(
        ["quantization", "bytes", "bits per weight", "tensors", "SHA-256"],
        [
            (
                r.marked_name,
                r.bytes,
                f"{r.bits_per_weight:.2f}",
                r.contents.describe(),
                r.sha256[:16],
            )
            for r in rows
        ],
        title=models.name,
    )
    for note in notes_of(rows):
        typer.echo(f"Note: {note}")
    # Whole, and in the form that `sha256sum --check` reads.
    for row in rows:
        typer.echo(f"{row.sha256}  {paths[row.quantization]}")
