"""Results on stdout: a table for people, the same values as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgequant.core.text import printable

PIPE_WIDTH = 200
LARGEST_COUNT = 2**31 - 1
"""What llama.cpp's own counts hold."""

JSON_OPTION = typer.Option(False, "--json", help="Print the result as JSON on stdout.")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the command what happens; rich would exit with status 1."""
        raise


def echo(line: str) -> None:
    """A line on stdout, whoever wrote what is in it."""
    typer.echo(printable(line))


def print_json(value: object) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None
) -> None:
    """A plain table on stdout; numbers are right-aligned, None is shown as a dash."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        # As Text: brackets in what a stranger wrote are no markup.
        table.add_row(*(Text("–" if cell is None else printable(str(cell))) for cell in row))
    console = _Console()
    if not console.is_terminal:
        # Whoever reads a file or a pipe wants whole cells, not 80 columns.
        console = _Console(width=PIPE_WIDTH)
    console.print(table)
