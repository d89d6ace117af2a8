"""``edgequant report``: draw a run folder's page again."""

from __future__ import annotations

from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json

OUT_OPTION = typer.Option(None, "--out", help="Folder to write to; by default the run folder.")


def command(
    run: Path = typer.Argument(metavar="RUN_DIR", help="Folder that sweep or demo has written."),
    out: Path | None = OUT_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Draw report.html and figures/*.svg and *.csv again from the files of a run folder.

    The hashes of the files in the folder's manifest.json are brought up to date.

    Example: edgequant report runs/demo
    """
    from edgequant.core.progress import task
    from edgequant.report.page import FIGURES_FOLDER, write_report
    from edgequant.report.run import load_run, refresh_file_records

    inputs = load_run(run)
    folder = run if out is None else out
    with task("Drawing the report"):
        page = write_report(folder, inputs)
        if folder.resolve() == run.resolve():
            refresh_file_records(run)
    if as_json:
        print_json({"report": str(page), "figures": str(folder / FIGURES_FOLDER)})
    else:
        echo(f"Report: {page}")
