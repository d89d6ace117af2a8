"""``edgequant build``: static binaries for a board, or tools for this host."""

from __future__ import annotations

from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table


def command(
    target: str | None = typer.Option(
        None,
        "--target",
        "-t",
        help="An ISA level (armv8-a), host, or a board (rk3568): what its profile says.",
    ),
    board: str | None = typer.Option(
        None, "--board", help="Ask this board what its CPU can do, and build the best for it."
    ),
    tool: list[str] = typer.Option(
        [], "--tool", help="Build only this program; give it again for more."
    ),
    source: Path | None = typer.Option(
        None, "--source", help="Another llama.cpp than the pinned one: a checkout or a tarball."
    ),
    way: str = typer.Option(
        "zig", "--with", help="zig (needs only Python packages), gcc, or container."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Build static binaries for a board, or the tools of this host.

    Example: edgequant build --target rk3568 --tool llama-bench
    """
    from edgequant.build.bill.sbom import SBOM_NAME, bill_table
    from edgequant.build.build import build

    if target is not None and board is not None:
        raise typer.BadParameter("give --target or --board, not both", param_hint="--target")
    if target is None and board is None:
        raise typer.BadParameter("give one of --target and --board", param_hint="--target")
    target = target if target is not None else _ask_board(str(board))
    built = build(target, tools=tool or None, source=source, way=way)
    manifest = built.artefact.manifest
    files = {name: manifest.files[f"bin/{name}"] for name in sorted(built.binaries)}
    if as_json:
        print_json(
            {
                "target": built.target.name,
                "key": built.key,
                "folder": str(built.artefact.folder),
                "llama_cpp_commit": built.llama_cpp_commit,
                "reused": built.reused,
                "way": manifest.details.get("way"),
                "compiler": manifest.details.get("compiler"),
                "flags": manifest.details.get("flags"),
                "timings": manifest.timings,
                "audit": manifest.details.get("audit"),
                "trial": manifest.details.get("trial"),
                "sbom": str(built.artefact.folder / SBOM_NAME),
                "binaries": {
                    name: {
                        "path": str(built.binary(name)),
                        "bytes": record.bytes,
                        "sha256": record.sha256,
                    }
                    for name, record in files.items()
                },
            }
        )
        return
    print_table(
        ["binary", "bytes", "SHA-256"],
        [[name, record.bytes, record.sha256] for name, record in files.items()],
        title=f"{built.target.name}, llama.cpp {built.llama_cpp_commit}"
        + (" (already built)" if built.reused else ""),
    )
    print_table(
        ["inside", "version", "licence", "linked into"],
        [
            [row.component, row.version, row.licence, row.linked_into]
            for row in bill_table(built.artefact.folder / SBOM_NAME)
        ],
        title="What is linked in",
    )
    echo(_tried(manifest.details.get("trial")))
    echo(f"in {built.artefact.folder / 'bin'}; its bill of materials: ../{SBOM_NAME}")


def _ask_board(name: str) -> str:
    from edgequant.boards.target_selection import target_of_board
    from edgequant.core.progress import say

    choice = target_of_board(name)
    say(choice.note or f"{choice.board}: building {choice.target.name}, as its profile says")
    return choice.target.name


def _tried(trial: object) -> str:
    """What running the binaries showed, in one line."""
    if not isinstance(trial, dict):
        return "Built for this machine: not tried as another CPU."
    if not trial.get("ran"):
        return f"Not tried: {trial.get('reason')}"
    line = f"Every program ran as a {trial['cpu']} (qemu-user)"
    dies = trial.get("dies_as")
    if dies and dies.get("of"):
        program, instruction = next(iter(sorted(dies["of"].items())))
        line += f"; a {dies['cpu']} would not do: {program} uses {instruction}"
    return line + "."
