"""``edgequant quantize``: from a Hugging Face model to quantized GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table

DEFAULT_TYPES = ["Q2_K", "Q4_K_M", "Q8_0"]


def command(
    model: str = typer.Argument(
        ...,
        help="Hugging Face folder (config.json, weights, tokenizer), or the id of a model on a "
        "hub: org/name or org/name@revision, which is pulled.",
        metavar="MODEL",
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
    """Convert a Hugging Face model to GGUF, check its tokenizer, and quantize it.

    Example: edgequant quantize ./my-model --type Q2_K --type Q8_0 --out gguf
    """
    from edgequant.core.artefact import Store
    from edgequant.models.make import make_models
    from edgequant.models.publish import publish
    from edgequant.models.pull.pull import local_or_pulled
    from edgequant.models.pull.space import Conversion
    from edgequant.models.variant import variants_of_types

    # What is wrong with the input is said before the tools are built, which can take minutes.
    wanted = variants_of_types(types)
    store = Store()
    folder = local_or_pulled(model, store=store, conversion=Conversion(store.root, wanted))
    from edgequant.build.build import build

    models = make_models(folder.path, wanted, host=build("host"), output_type=output_type)
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
