"""The ``edgequant`` command: its verbs are imported only when they are called."""

from __future__ import annotations

import importlib
import io
import os
import select
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from edgequant.core.errors import EdgequantError
from edgequant.core.text import printable
from edgequant.core.version import __version__

# Exit codes that belong to no class of error; a shell gives the last two to killed programs too.
USAGE_ERROR = 2
INTERRUPTED = 130
OUTPUT_GONE = 141

# What typer raises for wrong options and arguments; it has no public name for all of them.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]

# Verb to (module, one line of help). Listing them here keeps `edgequant --help` free of imports.
VERBS: dict[str, tuple[str, str]] = {
    "build": ("edgequant.cli.build", "Build static binaries for a board, or tools for this host."),
    "pull": ("edgequant.cli.pull", "Pull a model, GGUF files or a data set from a hub."),
    "quantize": (
        "edgequant.cli.quantize",
        "Turn a Hugging Face model into quantized GGUF files.",
    ),
    "quality": (
        "edgequant.cli.quality",
        "Compare variants with their 16-bit model: perplexity, divergence.",
    ),
    "board": ("edgequant.cli.board", "List, show, inspect, start and stop boards."),
    "deploy": ("edgequant.cli.deploy", "Copy binaries and models to a board, verified by hash."),
    "measure": ("edgequant.cli.measure", "Time every token of a model on a board."),
    "serve": ("edgequant.cli.serve", "Run llama-server for one GGUF as the mirror."),
    "sweep": ("edgequant.cli.sweep", "Walk the whole line for one experiment file."),
    "match": ("edgequant.cli.match", "Join answers and latencies: accuracy at equal seconds."),
    "recommend": (
        "edgequant.cli.recommend",
        "Name the best choice for a time limit, and the command that runs it.",
    ),
    "report": ("edgequant.cli.report", "Draw report.html, SVG figures and CSV files."),
    "demo": ("edgequant.cli.demo", "The whole line on a virtual board with the shipped model."),
    "toolchain": (
        "edgequant.cli.toolchain",
        "Show what can be built here, get the source, move the pin.",
    ),
    "cache": ("edgequant.cli.cache", "List what lies in the cache, and remove what is old."),
    "schema": ("edgequant.cli.schema", "Print the JSON schema of a kind of file, for editors."),
    "doctor": ("edgequant.cli.doctor", "Check what is installed and say what is missing."),
}


def make_app(arguments: Sequence[str]) -> typer.Typer:
    """The command tree for one call: only the verb that ``arguments`` names is imported.

    A verb's module has either a function ``command`` or, where it has verbs of its own,
    a Typer ``app``.
    """
    app = typer.Typer(
        name="edgequant",
        cls=_Root,
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
    """Entry point: whatever goes wrong becomes one message and its own exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # What is ignored stays so: nohup ignores SIGHUP.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may be no text; in JSON, too, its bytes are then shown as escapes.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """One call of the command: its exit status, after whatever it prints."""
    try:
        _check_arguments(arguments)
        code = make_app(arguments)(arguments, standalone_mode=False)
    except EdgequantError as error:
        return _show_error(error)
    except _USAGE_ERROR as error:
        return _show_usage_error(error)
    except (KeyboardInterrupt, _Interrupted):
        return _show_interrupted()
    except (BrokenPipeError, _OutputGoneError):
        # The reader of our output went away (`edgequant ... | head`): not an error of ours.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return OUTPUT_GONE
    except Exception as error:
        from edgequant.core.unexpected import explain

        return _show_error(explain(error))
    return code if isinstance(code, int) else 0


def _check_arguments(arguments: Sequence[str]) -> None:
    """No argument can have a NUL in it where a system starts us; a caller in Python may try."""
    for argument in arguments:
        if "\0" in argument:
            raise typer.BadParameter(f"{argument!r} has a NUL in it")


class _Interrupted(Exception):  # noqa: N818 (no error: the user asked for it)
    """Ctrl-C, in a form that typer passes on."""


class _OutputGoneError(Exception):
    """Nobody reads our output, in a form that typer passes on."""


class _Root(TyperGroup):
    """The command tree; typer would end us on its own on Ctrl-C and on a broken pipe."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except BrokenPipeError as error:
            if not _output_gone():
                # A pipe or connection of ours to another program: an error like any other.
                raise ConnectionError(str(error)) from error
            raise _OutputGoneError from error


def _output_gone() -> bool:
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        poll.register(stream.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Treat a polite kill like Ctrl-C, so that children are stopped on the way out."""
    raise KeyboardInterrupt


def _show_error(error: EdgequantError) -> int:
    _print_json(error.as_dict())
    print(printable(f"error: {error}"), file=sys.stderr)
    return error.exit_code


def _show_usage_error(error: Exception) -> int:
    message = getattr(error, "format_message", error.__str__)()
    _print_json(
        {
            "error": "UsageError",
            "exit_code": USAGE_ERROR,
            "fault": "user",
            "cause": message,
            "subject": None,
            "next_step": "see --help",
        }
    )
    getattr(error, "show", lambda: print(message, file=sys.stderr))()
    return USAGE_ERROR


def _show_interrupted() -> int:
    message = "interrupted; what is finished is kept, and the next run goes on from here"
    _print_json(
        {
            "error": "Interrupted",
            "exit_code": INTERRUPTED,
            "fault": None,
            "cause": message,
            "subject": None,
            "next_step": "run the same command again",
        }
    )
    print(message.capitalize() + ".", file=sys.stderr)
    return INTERRUPTED


def _print_json(value: dict[str, object]) -> None:
    if "--json" in sys.argv:
        import json

        print(json.dumps(value, indent=2, ensure_ascii=False))
