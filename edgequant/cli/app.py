"""The ``edgequant`` command: its verbs are imported only when they are called."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import typer

from edgequant import __version__
from edgequant.core.errors import EdgequantError

# Verb to (module, one line of help). Listing them here keeps `edgequant --help` free of imports.
VERBS: dict[str, tuple[str, str]] = {
    "build": ("edgequant.cli.build", "Build static binaries for a board, or tools for this host."),
    "quantize": (
        "edgequant.cli.quantize",
        "Turn a Hugging Face folder into quantized GGUF files.",
    ),
    "board": ("edgequant.cli.board", "List, show, inspect, start and stop boards."),
    "deploy": ("edgequant.cli.deploy", "Copy binaries and models to a board, verified by hash."),
    "measure": ("edgequant.cli.measure", "Time every token of a model on a board."),
    "serve": ("edgequant.cli.serve", "Run llama-server for one GGUF as the mirror."),
    "sweep": ("edgequant.cli.sweep", "Walk the whole line for one experiment file."),
    "match": ("edgequant.cli.match", "Join answers and latencies: accuracy at equal seconds."),
    "report": ("edgequant.cli.report", "Draw report.html, SVG figures and CSV files."),
    "demo": ("edgequant.cli.demo", "The whole line on a virtual board with the shipped model."),
    "doctor": ("edgequant.cli.doctor", "Check what is installed and say what is missing."),
}


def make_app(arguments: Sequence[str]) -> typer.Typer:
    """The command tree for one call: only the verb that ``arguments`` names is imported.

    A verb's module has either a function ``command`` or, where it has verbs of its own,
    a Typer ``app``.
    """
    app = typer.Typer(
        name="edgequant",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback(invoke_without_command=True)(_root)
    called = next((a for a in arguments if not a.startswith("-")), None)
    for verb, (module_name, help_line) in VERBS.items():
        if verb != called:
            app.command(verb, help=help_line, short_help=help_line)(_not_called)
            continue
        module = importlib.import_module(module_name)
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb, short_help=help_line)
        else:
            app.command(verb, short_help=help_line)(module.command)
    return app


def _not_called() -> None:
    """Stands for a verb in the list of verbs; only the called one is imported."""


def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    """Find the quantization, prompt and token budget that answer best within T seconds on a board.

    Example: edgequant demo --out runs/demo
    """
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point: every purposeful error becomes one message and its own exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        make_app(sys.argv[1:])()
    except EdgequantError as error:
        _show_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("Interrupted; the next run goes on from here.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`edgequant ... | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Treat a polite kill like Ctrl-C, so that children are stopped on the way out."""
    raise KeyboardInterrupt


def _show_error(error: EdgequantError) -> None:
    if "--json" in sys.argv:
        import json

        print(json.dumps(error.as_dict()))
    print(f"error: {error}", file=sys.stderr)
