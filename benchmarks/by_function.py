"""Where the instructions of a generated token go, function by function.

    python benchmarks/by_function.py MODEL.gguf --variant zig

Runs a variant's probe under qemu-user with a small plugin that counts every block of
instructions, once for one token and once for more; the difference is what a token takes. Needs
Debian's qemu-user (the static one takes no plugins), gcc, and nm and c++filt of binutils for arm64.
"""

from __future__ import annotations

import bisect
import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.instructions import PROMPT  # noqa: E402
from benchmarks.variants import build_folder, build_probe, find_variant, setup_of  # noqa: E402
from edgequant.build.source.lock import load_lock  # noqa: E402
from edgequant.build.source.tree import fetch_source  # noqa: E402
from edgequant.build.ways.compilers import build_program  # noqa: E402
from edgequant.core.errors import BuildError, EdgequantError, ProbeError  # noqa: E402
from edgequant.core.paths import cache_root  # noqa: E402
from edgequant.core.process import run_logged  # noqa: E402
from edgequant.latency.probe import PROBE_NAME  # noqa: E402

PLUGIN_SOURCE = Path(__file__).with_name("count_blocks.c")
QEMU = "qemu-aarch64"
CPU = "cortex-a76"
NM = "aarch64-linux-gnu-nm"


def read_blocks(lines: Iterable[str]) -> Counter[int]:
    """Instructions executed in the blocks that start at each address."""
    executed: Counter[int] = Counter()
    for line in lines:
        address, instructions, count = line.split()
        executed[int(address, 16)] += int(instructions) * int(count)
    return executed


def read_symbols(lines: Iterable[str]) -> list[tuple[int, str]]:
    """Address and name of every function, from ``nm -n -C``."""
    symbols = []
    for line in lines:
        address, _, rest = line.partition(" ")
        kind, _, name = rest.partition(" ")
        # $x and $d mark code and data for disassemblers.
        if address and kind in "tTwW" and not name.startswith("$"):
            symbols.append((int(address, 16), name))
    return sorted(symbols)


def per_function(
    short: Counter[int], long: Counter[int], tokens: int, symbols: Sequence[tuple[int, str]]
) -> Counter[str]:
    """Instructions of one token in each function.

    Args:
        short: what a run executed.
        long: what the same run executed with more tokens.
        tokens: how many more.
        symbols: the functions, by address.
    """
    addresses = [address for address, _ in symbols]
    executed: Counter[str] = Counter()
    for address in long.keys() | short.keys():
        place = bisect.bisect_right(addresses, address) - 1
        name = symbols[place][1] if place >= 0 else "?"
        executed[name] += long[address] - short[address]
    return Counter({name: round(count / tokens) for name, count in executed.items()})


def link_with_symbols(folder: Path, environment: dict[str, str]) -> Path:
    """The probe in a build folder, linked once more without stripping it.

    Raises:
        BuildError: it cannot be linked.
    """
    build = folder / "build"
    printed = subprocess.run(
        [build_program("ninja"), "-C", build, "-t", "commands", PROBE_NAME],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = shlex.split(printed.splitlines()[-1].removeprefix(": && ").removesuffix(" && :"))
    compiler = Path(words[0]).read_bytes()
    if compiler.startswith(b"#!"):
        # zig's wrapper: exec PROGRAM ARGUMENTS... "$@"
        words[:1] = shlex.split(compiler.decode().splitlines()[1])[1:-1]
    out = folder / f"{PROBE_NAME}-with-symbols"
    words[words.index("-o") + 1] = str(out)
    run_logged(
        [word for word in words if word != "-s"],
        log=folder / "build.log",
        error=BuildError,
        what="linking the probe with symbols",
        cwd=build,
        env=environment,
    )
    return out


def count_blocks(
    probe: Path,
    model: Path,
    tokens: int,
    *,
    repack: bool = True,
    cpu: str = CPU,
    prompt: str = PROMPT,
) -> Counter[int]:
    """What a run of the probe under qemu-user executes.

    Raises:
        ProbeError: the run failed.
        ToolMissingError: qemu-user or gcc is not installed.
    """
    folder = cache_root() / "benchmarks"
    plugin = folder / "count_blocks.so"
    folder.mkdir(exist_ok=True)
    log = folder / "by_function.log"
    run_logged(
        ["gcc", "-O2", "-shared", "-fPIC", "-o", plugin, PLUGIN_SOURCE],
        log=log,
        error=ProbeError,
        what="compiling the plugin",
    )
    blocks = folder / f"blocks-{os.getpid()}.txt"
    run_logged(
        [
            *(QEMU, "-cpu", cpu, "-plugin", f"{plugin},out={blocks}", probe, "--model", model),
            *("--prompt", prompt, "-n", str(tokens), "--threads", "1"),
            *("--repack", "1" if repack else "0"),
        ],
        log=log,
        error=ProbeError,
        what="running the probe under qemu-user",
        next_step="apt-get install qemu-user (Debian's name): the static one takes no plugins",
    )
    executed = read_blocks(blocks.read_text(encoding="ascii").splitlines())
    blocks.unlink()
    return executed


def main(
    model: Path = typer.Argument(help="A GGUF file."),
    variant: str = typer.Option("zig", "--variant"),
    tokens: int = typer.Option(4, "--tokens", min=1, help="How many the difference is taken over."),
    top: int = typer.Option(15, "--top", min=1, help="Functions shown."),
    kleidiai: Path | None = typer.Option(None, "--kleidiai", help="As in instructions.py."),
) -> None:
    """Print where the instructions of a generated token go: counts under emulation."""
    try:
        chosen = find_variant(variant)
        source = fetch_source(load_lock())
        build_probe(chosen, source, kleidiai=kleidiai)
        folder = build_folder(chosen, source)
        probe = link_with_symbols(folder, {**os.environ, **setup_of(chosen, source).environment})
        short = count_blocks(probe, model, 1, repack=chosen.repack)
        long = count_blocks(probe, model, 1 + tokens, repack=chosen.repack)
    except EdgequantError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    printed = subprocess.run([NM, "-n", "-C", probe], capture_output=True, text=True, check=True)
    symbols = read_symbols(printed.stdout.splitlines())
    executed = per_function(short, long, tokens, symbols)
    total = executed.total()
    typer.echo(f"{total / 1e6:.3f} million instructions a token: {variant}, {model.name}")
    typer.echo("| function | instructions | share |\n| --- | ---: | ---: |")
    for name, count in executed.most_common(top):
        shown = name.partition("(")[0].split(" ")[-1]
        typer.echo(f"| `{shown}` | {count} | {100 * count / total:.1f} % |")


if __name__ == "__main__":
    typer.run(main)
