"""``edgequant deploy``: copy binaries and models to a board, verified by hash."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json


def command(
    board: str = typer.Argument(help="A profile's name in boards/, or the path of a .toml file."),
    files: list[Path] = typer.Argument(help="Binaries and GGUF files to bring there."),
    verify: bool = typer.Option(
        False, "--verify", help="Also hash anew what is on the board already."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Copy files to a board, verified by SHA-256; what is there and whole is not sent again.

    Example: edgequant deploy virtual model-Q2_K.gguf model-Q8_0.gguf
    """
    from edgequant.boards.board import open_board
    from edgequant.boards.deploy import deploy
    from edgequant.boards.profile import load_profile

    profile = load_profile(board)
    with contextlib.closing(open_board(profile)) as opened:
        receipt = deploy(opened, {str(path): path for path in files}, verify=verify)
    if as_json:
        print_json(receipt.model_dump(mode="json"))
        return
    for entry in receipt.entries.values():
        state = "sent     " if entry.sent else "was there"
        echo(f"{state}  {entry.bytes / 1e6:9.1f} MB  {entry.remote_path}")
    echo(f"{receipt.sent_bytes / 1e6:.1f} MB sent to {receipt.board} in {receipt.seconds:.1f} s")
