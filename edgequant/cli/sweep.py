"""``edgequant sweep``: the whole line for one experiment file."""

from __future__ import annotations

from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION, print_json

OUT_OPTION = typer.Option(None, "--out", help="Run folder; by default runs/NAME.")
BOARD_OPTION = typer.Option(None, "--board", help="Another board than the experiment names.")


def command(
    experiment: str = typer.Argument(help="An experiment file, or the name of a shipped one."),
    out: Path | None = OUT_OPTION,
    board: str | None = BOARD_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Walk the whole line for one experiment: build, quantize, deploy, measure, ask, match, report.

    Each stage is run only if its inputs changed; an interrupted sweep goes on where it stopped.

    Example: edgequant sweep experiments/demo.toml --out runs/mine
    """
    run_and_print(experiment, out, board=board, as_json=as_json)


def run_and_print(
    experiment: str, out: Path | None, *, board: str | None = None, as_json: bool
) -> None:
    """Run one sweep and print its result; shared with ``edgequant demo``."""
    from edgequant.cli.sweep_output import print_result
    from edgequant.experiment.file import load_experiment
    from edgequant.experiment.sweep import sweep

    loaded, path = load_experiment(experiment)
    if board is not None:
        loaded = loaded.model_copy(
            update={"board": loaded.board.model_copy(update={"name": board})}
        )
    result = sweep(loaded, path, out if out is not None else Path("runs") / loaded.name)
    if as_json:
        print_json(result.as_dict())
    else:
        print_result(result)
