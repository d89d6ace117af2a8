"""``edgequant board``: list, show, inspect, start and stop boards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table

if TYPE_CHECKING:
    from edgequant.boards.profile import BoardProfile

app = typer.Typer(
    help="List, show, inspect, start and stop boards.\n\nExample: edgequant board up virtual",
    no_args_is_help=True,
    rich_markup_mode=None,
)

BOARD_ARGUMENT = typer.Argument(help="A profile's name in boards/, or the path of a .toml file.")


@app.command("ls")
def list_boards(as_json: bool = JSON_OPTION) -> None:
    """List the boards that there are profiles for.

    Example: edgequant board ls
    """
    from edgequant.boards.profile import list_profiles

    profiles = list_profiles()
    if as_json:
        print_json([p.model_dump(mode="json") for p in profiles.values()])
        return
    print_table(
        ["Board", "Kind", "Target", "Address", "Description"],
        [[n, p.kind, p.build.target, _address(n), p.description] for n, p in profiles.items()],
    )


def _address(name: str) -> str | None:
    from edgequant.boards.profile import load_profile
    from edgequant.boards.virtual.machine import find_instance

    profile = load_profile(name)
    if profile.kind == "virtual":
        state = find_instance(profile).state()
        return "down" if state is None else f"up, 127.0.0.1:{state.port}"
    return profile.link_section.address


@app.command("show")
def show_board(
    board: str = BOARD_ARGUMENT,
    ask: bool = typer.Option(False, "--ask", help="Fill in what is left out from the board."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Show what a board's profile says; with --ask, also what it leaves out and the board tells.

    Example: edgequant board show rk3568
    """
    from edgequant.boards.board import open_board
    from edgequant.boards.facts import collect_facts, complete
    from edgequant.boards.profile import load_profile

    profile = load_profile(board)
    said = _flat(profile)
    found = {}
    if ask:
        with contextlib.closing(open_board(profile)) as opened:
            found = _flat(complete(profile, collect_facts(opened)))
    if as_json:
        print_json(found or said)
        return
    rows = []
    for key, value in said.items():
        source = "profile"
        if value is None and found.get(key) is not None:
            value, source = found[key], "board"
        rows.append([key, None if value is None else str(value), source if value else None])
    print_table(["Key", "Value", "Said by"], rows, title=profile.description)


def _flat(profile: BoardProfile) -> dict[str, object]:
    """The profile's values by dotted key."""
    values = profile.model_dump(mode="json")
    if profile.kind != "virtual":
        values.pop("virtual")
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": v for inner, v in value.items()}
        else:
            flat[key] = value
    return {**flat, "latency_source": profile.latency_source}


@app.command("facts")
def board_facts(board: str = BOARD_ARGUMENT, as_json: bool = JSON_OPTION) -> None:
    """Ask a board what it is: CPU, memory, free space, frequency, temperature.

    Example: edgequant board facts virtual
    """
    from edgequant.boards.board import open_board
    from edgequant.boards.facts import collect_facts
    from edgequant.boards.profile import load_profile

    profile = load_profile(board)
    with contextlib.closing(open_board(profile)) as opened:
        facts = collect_facts(opened)
    if as_json:
        print_json(facts.model_dump(mode="json"))
        return
    rows = [[name, _shown(name, value)] for name, value in facts.model_dump().items()]
    print_table(["Fact", "Value"], rows, title=f"{profile.name}: {profile.description}")


def _shown(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, tuple):
        return " ".join(value)
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 1e9:.3f} GB"
    if name.endswith("_hz") and isinstance(value, float):
        return f"{value / 1e9:.3f} GHz"
    return str(value)


@app.command("up")
def board_up(
    board: str = typer.Argument("virtual", help="A virtual board's profile."),
    clock: str = typer.Option(
        "host",
        help="host: the guest's time is real time. instructions: it advances 1 ns for each "
        "instruction, on one core, and repeats to the fourth digit.",
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Start a virtual board and wait until SSH answers; a running one is left as it is.

    Example: edgequant board up virtual
    """
    from edgequant.boards.profile import load_profile
    from edgequant.boards.virtual.machine import up

    chosen: Literal["host", "instructions"]
    if clock == "host":
        chosen = "host"
    elif clock == "instructions":
        chosen = "instructions"
    else:
        raise typer.BadParameter(f"{clock!r} is neither 'host' nor 'instructions'")
    outcome = up(load_profile(board), chosen)
    assert outcome.state is not None
    ssh = outcome.instance.ssh_command(outcome.state)
    if as_json:
        print_json(
            {
                "board": outcome.instance.name,
                "started": outcome.changed,
                **outcome.state.model_dump(mode="json"),
                "folder": str(outcome.instance.folder),
                "ssh": ssh,
            }
        )
        return
    echo(outcome.message)
    echo(f"log in: {ssh}")
    echo(f"stop it: edgequant board down {outcome.instance.name}")


@app.command("down")
def board_down(
    board: str = typer.Argument("virtual", help="A virtual board's profile."),
    delete: bool = typer.Option(False, "--delete", help="Also delete its disk and what is on it."),
    force: bool = typer.Option(False, "--force", help="Stop it even while another run uses it."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Stop a virtual board; its disk is kept for the next start.

    Example: edgequant board down virtual
    """
    from edgequant.boards.profile import load_profile
    from edgequant.boards.virtual.machine import down

    outcome = down(load_profile(board), delete=delete, force=force)
    if as_json:
        print_json(
            {
                "board": outcome.instance.name,
                "changed": outcome.changed,
                "message": outcome.message,
            }
        )
        return
    echo(outcome.message)
