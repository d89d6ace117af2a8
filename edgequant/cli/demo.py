"""``edgequant demo``: the whole line on a virtual board with the shipped model."""

from __future__ import annotations

from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION
from edgequant.cli.sweep import run_and_print

OUT_OPTION = typer.Option(Path("runs/demo"), "--out", help="Run folder.")


def command(out: Path = OUT_OPTION, as_json: bool = JSON_OPTION) -> None:
    """Run the shipped experiment on a virtual board that is started and stopped for it.

    Seconds of the virtual board are emulated and labelled so everywhere.

    Example: edgequant demo --out runs/demo
    """
    run_and_print("demo", out, as_json=as_json)
