"""What each ISA level saves: instructions of a token on one core that has them all.

    python benchmarks/levels.py MODEL.gguf...

Builds the probe for every target as `edgequant build` does and counts under qemu-user, on its
largest CPU with SVE vectors of 128 bits, as boards have them. Needs what by_function.py needs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.by_function import count_blocks  # noqa: E402
from edgequant.build.build import build  # noqa: E402
from edgequant.build.targets.target import load_target, target_names  # noqa: E402
from edgequant.core.errors import EdgequantError  # noqa: E402
from edgequant.latency.probe import PROBE_NAME  # noqa: E402

EVERY_EXTENSION = "max,sve128=on,sme=off"
# One sentence has as many tokens for every level, so that their ratios are exact.
SENTENCE = "Anna has 3 apples."
MORE_SENTENCES = 7
TOKENS = 8


def main(models: list[Path] = typer.Argument(help="GGUF files.")) -> None:
    """Print the counts of every level: under emulation, not seconds."""
    typer.echo("| target | model | generated token, millions | sentence of a prompt, millions |")
    typer.echo("| --- | --- | ---: | ---: |")
    try:
        for name in target_names():
            if load_target(name).is_host:
                continue
            probe = build(name, tools=[PROBE_NAME]).binary(PROBE_NAME)
            for model in models:
                decode, prompt = count(probe, model)
                typer.echo(f"| {name} | {model.stem} | {decode / 1e6:.3f} | {prompt / 1e6:.2f} |")
    except EdgequantError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None


def count(probe: Path, model: Path) -> tuple[float, float]:
    """Instructions of a generated token, and of one more sentence of a prompt."""

    def total(tokens: int, sentences: int) -> int:
        prompt = " ".join([SENTENCE] * sentences)
        return count_blocks(probe, model, tokens, cpu=EVERY_EXTENSION, prompt=prompt).total()

    one = total(1, 1)
    decode = (total(1 + TOKENS, 1) - one) / TOKENS
    return decode, (total(1, 1 + MORE_SENTENCES) - one) / MORE_SENTENCES


if __name__ == "__main__":
    typer.run(main)
