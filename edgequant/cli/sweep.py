"""``edgequant sweep``: the whole line for one experiment file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table

if TYPE_CHECKING:
    from edgequant.experiment.file import Experiment

OUT_OPTION = typer.Option(None, "--out", help="Run folder; by default runs/NAME.")
DRY_RUN_OPTION = typer.Option(
    False, "--dry-run", help="Only say which stages would run, and what is known of their cost."
)
CHECK_OPTION = typer.Option(
    None,
    "--mirror-check",
    metavar="BOARD",
    help="Have some of the mirror's prompts answered by this board, too.",
)
BOARD_OPTION = typer.Option(None, "--board", help="Another board than the experiment names.")


def command(
    experiment: str = typer.Argument(help="An experiment file, or the name of a shipped one."),
    out: Path | None = OUT_OPTION,
    board: str | None = BOARD_OPTION,
    mirror_check: str | None = CHECK_OPTION,
    dry_run: bool = DRY_RUN_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Walk the whole line for one experiment: build, quantize, deploy, measure, ask, match, report.

    Each stage is run only if its inputs changed; an interrupted sweep goes on where it stopped.
    The host and the board work at the same time.

    Example: edgequant sweep experiments/demo.toml --out runs/mine
    """
    if dry_run:
        plan_and_print(experiment, board=board, mirror_check=mirror_check, as_json=as_json)
    else:
        run_and_print(experiment, out, board=board, mirror_check=mirror_check, as_json=as_json)


def plan_and_print(
    experiment: str, *, board: str | None, mirror_check: str | None, as_json: bool
) -> None:
    """Say which stages would run, and what all of it comes to; nothing is run."""
    from edgequant.cli.sweep_output import print_estimate
    from edgequant.experiment.estimate import estimate
    from edgequant.experiment.sweep import plan_sweep

    loaded, _ = _load(experiment, board, mirror_check)
    known = estimate(loaded)
    # Without its model or questions nothing can be said of a stage, but much of the whole.
    planned = [] if known.missing else plan_sweep(loaded)
    if as_json:
        print_json(
            {
                "stages": [
                    {
                        "stage": p.stage.name,
                        "title": p.stage.title,
                        "place": p.stage.place,
                        "needs": [needed.name for needed in p.stage.needs],
                        "state": p.state,
                        "key": p.key,
                        "cost": p.cost,
                    }
                    for p in planned
                ],
                "estimate": known.as_dict(),
            }
        )
        return
    if planned:
        print_table(
            ["stage", "where", "state", "key", "cost"],
            [(p.stage.title, p.stage.place, p.state, p.key or None, p.cost) for p in planned],
            title=loaded.name,
        )
        waiting = sum(p.state == "would run" for p in planned)
        echo(f"{waiting} of {len(planned)} stages would run")
    print_estimate(known)


def run_and_print(
    experiment: str,
    out: Path | None,
    *,
    board: str | None = None,
    mirror_check: str | None = None,
    as_json: bool,
) -> None:
    """Run one sweep and print its result; shared with ``edgequant demo``."""
    from edgequant.cli.sweep_output import print_result
    from edgequant.experiment.sweep import sweep

    loaded, path = _load(experiment, board, mirror_check)
    result = sweep(loaded, path, out if out is not None else Path("runs") / loaded.name)
    if as_json:
        print_json(result.as_dict())
    else:
        print_result(result)


def _load(experiment: str, board: str | None, mirror_check: str | None) -> tuple[Experiment, Path]:
    from edgequant.experiment.file import MirrorCheckSection, load_experiment

    loaded, path = load_experiment(experiment)
    if board is not None:
        loaded = loaded.model_copy(
            update={"board": loaded.board.model_copy(update={"name": board})}
        )
    if mirror_check is not None:
        section = (
            MirrorCheckSection(board=mirror_check)
            if loaded.mirror_check is None
            else loaded.mirror_check.model_copy(update={"board": mirror_check})
        )
        loaded = loaded.model_copy(update={"mirror_check": section})
    return loaded, path
