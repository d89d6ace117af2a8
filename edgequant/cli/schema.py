"""``edgequant schema``: what a file may hold, for editors."""

from __future__ import annotations

from typing import Literal

import typer

from edgequant.cli.output import JSON_OPTION

KIND_ARGUMENT = typer.Argument(help="Which kind of file.", metavar="KIND")


def command(
    kind: Literal["experiment", "board", "prompt", "target"] = KIND_ARGUMENT,
    _json: bool = JSON_OPTION,
) -> None:
    """Print the JSON schema of experiment, board, prompt or target files; it is always JSON.

    Name it in a file's first line (#:schema PATH), and an editor completes and checks its keys.

    Example: edgequant schema board > board.schema.json
    """
    from edgequant.experiment.file_schemas import schema_text

    typer.echo(schema_text(kind), nl=False)
