"""Compare ways to compile llama.cpp by the instructions that a token takes on a virtual board.

    python benchmarks/instructions.py                       # every variant, the demo model
    python benchmarks/instructions.py --variant study --variant zig --type Q8_0
    python benchmarks/instructions.py --model FOLDER        # another model

Instruction counts under emulation, not seconds: qemu counts what the guest's one core executes
and knows nothing of caches, memory bandwidth or how long an instruction takes.

What is compiled and counted is kept in the cache; a variant that was counted is not counted again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import typer
from pydantic import BaseModel, ConfigDict

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.variants import (  # noqa: E402
    OURS,
    REFERENCE,
    VARIANTS,
    Variant,
    build_probe,
    find_variant,
)
from edgequant.boards.board import Board, open_board  # noqa: E402
from edgequant.boards.deploy import deploy  # noqa: E402
from edgequant.boards.profile import load_profile  # noqa: E402
from edgequant.boards.virtual.machine import virtual_board  # noqa: E402
from edgequant.core.errors import EdgequantError, ProbeError  # noqa: E402
from edgequant.core.files import write_json  # noqa: E402
from edgequant.core.hashing import sha256_file, sha256_json  # noqa: E402
from edgequant.core.paths import cache_root  # noqa: E402
from edgequant.core.progress import say  # noqa: E402
from edgequant.latency.measure import run_steadily, waited_for_storage  # noqa: E402
from edgequant.latency.probe import ProbeOptions, ProbeRun, run_probe  # noqa: E402
from edgequant.latency.statistics import median  # noqa: E402

BOARD = Path(__file__).with_name("counting-board.toml")
DEMO_MODEL = ROOT / "experiments" / "demo_model" / "model"
TYPES = ("Q4_0", "Q4_K_M", "Q8_0", "Q2_K")
PROMPT = (
    "Tom has 12 apples. He buys 7 more apples and gives 5 of them to his sister. "
    "How many apples does Tom have now? Think step by step."
)
RESULTS_VERSION = 1


class Count(BaseModel):
    """What one variant takes for one model."""

    model_config = ConfigDict(frozen=True)

    variant: str
    quantization: str
    decode: float
    """Instructions of one generated token (median)."""
    prompt: float
    """Instructions of one more token of a prompt."""
    prompt_tokens: tuple[int, int]
    """Length of the shorter and of the longer prompt."""
    token_ids: tuple[int, ...]
    """What was generated, greedily."""
    probe_sha256: str
    probe_bytes: int
    model_sha256: str


def result_key(
    probe_sha256: str, model_sha256: str, prompt: str, tokens: int, repack: bool, board: str
) -> str:
    """Names a result: over all that can change it."""
    return sha256_json(
        [RESULTS_VERSION, probe_sha256, model_sha256, prompt, tokens, repack, board]
    )[:16]


def find_models(folder: Path, types: Sequence[str]) -> dict[str, Path]:
    """The model in each of several types: a folder's GGUF files, or what is quantized from it.

    Args:
        folder: has files ``...-TYPE.gguf``, or a Hugging Face model.
        types: as llama-quantize knows them.

    Raises:
        EdgequantError: the folder is neither, or quantizing failed.
    """
    files = sorted(folder.glob("*.gguf"))
    if not files:
        from edgequant.build.build import build
        from edgequant.models.make import make_models
        from edgequant.models.variant import variants_of_types

        models = make_models(folder, variants_of_types(types), host=build("host"))
        return {file.name: file.path for file in models}
    found = {}
    for name in types:
        fitting = [f for f in files if re.search(rf"(^|[-.]){re.escape(name)}\.gguf$", f.name)]
        if len(fitting) != 1:
            raise ProbeError(
                f"has {len(fitting)} files *-{name}.gguf",
                subject=folder,
                next_step="leave that --type out, or name the model's own folder",
            )
        found[name] = fitting[0]
    return found


def count_on(
    board: Board, variant: Variant, probe: str, model: str, prompt: str, tokens: int
) -> tuple[ProbeRun, ProbeRun]:
    """Run a deployed probe with the prompt as it is and doubled.

    Raises:
        ProbeError: a run failed, or waited for storage.
    """
    runs = []
    for text, count in ((prompt, tokens), (f"{prompt} {prompt}", 1)):
        options = ProbeOptions(tokens=count, threads=1, repack=variant.repack)
        once = functools.partial(run_probe, board, probe, model, text, options)
        run = run_steadily(board, "instructions", once)
        if waited_for_storage(run):
            raise ProbeError("the model is read from storage while it runs", subject=model)
        runs.append(run)
    return runs[0], runs[1]


class CountingBoard:
    """The virtual board with the instruction clock, started when it is first needed."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    @functools.cached_property
    def board(self) -> Board:
        instance = self._stack.enter_context(
            virtual_board(load_profile(str(BOARD)), "instructions")
        )
        return self._stack.enter_context(open_board(instance.profile))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


class Results:
    """Counts that are kept, one small file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Count | None:
        """A count that is there; None where there is none, or of another format."""
        try:
            return Count.model_validate_json((self.folder / f"{key}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def keep(self, key: str, count: Count) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{key}.json", count.model_dump(mode="json"))


def count_variant(
    variant: Variant,
    probe: Path,
    models: Mapping[str, Path],
    results: Results,
    counting: CountingBoard,
    *,
    prompt: str,
    tokens: int,
) -> list[Count]:
    """Count one variant's instructions for every model, or find them counted.

    Args:
        variant: how the probe runs.
        probe: the probe, compiled.
        models: type to file.
        results: where counts are kept.
        counting: the board, which is started only if something is to be counted.
        prompt: evaluated once as it is, and once doubled.
        tokens: how many are generated.

    Raises:
        ProbeError: a run failed.
    """
    probe_sha256 = sha256_file(probe)
    board_sha256 = sha256_file(BOARD)
    counts = []
    for quantization, model in models.items():
        model_sha256 = sha256_file(model)
        key = result_key(probe_sha256, model_sha256, prompt, tokens, variant.repack, board_sha256)
        found = results.find(key)
        if found is None:
            board = counting.board
            receipt = deploy(board, {"probe": probe, "model": model})
            say(f"Counting {variant.name} {quantization}")
            short, long = count_on(
                board,
                variant,
                receipt.entries["probe"].remote_path,
                receipt.entries["model"].remote_path,
                prompt,
                tokens,
            )
            found = Count(
                variant=variant.name,
                quantization=quantization,
                decode=median([float(token.nanoseconds) for token in short.tokens[1:]]),
                prompt=per_prompt_token(short, long),
                prompt_tokens=(short.prefill.tokens, long.prefill.tokens),
                token_ids=tuple(token.token_id for token in short.tokens),
                probe_sha256=probe_sha256,
                probe_bytes=probe.stat().st_size,
                model_sha256=model_sha256,
            )
            results.keep(key, found)
        # Two variants can be one and the same binary.
        counts.append(found.model_copy(update={"variant": variant.name}))
    return counts


def per_prompt_token(short: ProbeRun, long: ProbeRun) -> float:
    """Instructions of one more token of a prompt: what a prefill costs at any length falls out.

    Raises:
        ProbeError: the longer prompt is not longer or not dearer.
    """
    more_tokens = long.prefill.tokens - short.prefill.tokens
    more = long.prefill.nanoseconds - short.prefill.nanoseconds
    if more_tokens <= 0 or more <= 0:
        raise ProbeError("the board's clock does not count instructions")
    return more / more_tokens


def markdown_table(counts: Sequence[Count], what: str, reference: str = REFERENCE) -> str:
    """A Markdown table of one count, variants down and types across, with ratios.

    Args:
        counts: of all variants and types.
        what: ``decode`` or ``prompt``.
        reference: variant that the others are divided by, where it is among them.
    """
    types = list(dict.fromkeys(count.quantization for count in counts))
    by_place = {(count.variant, count.quantization): count for count in counts}
    lines = [
        "| variant | " + " | ".join(types) + " |",
        "| --- |" + " ---: |" * len(types),
    ]
    for variant in dict.fromkeys(count.variant for count in counts):
        cells = []
        for name in types:
            count = by_place.get((variant, name))
            if count is None:
                cells.append("")
                continue
            millions = getattr(count, what) / 1e6
            base = by_place.get((reference, name))
            ratio = f" ({getattr(count, what) / getattr(base, what):.2f})" if base else ""
            cells.append(f"{_digits(millions)}{ratio}")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _digits(value: float) -> str:
    """Four significant digits, without an exponent."""
    decimals = max(0, 3 - len(str(int(value)))) + (1 if value < 1000 else 0)
    return f"{value:.{decimals}f}"


def other_answers(counts: Sequence[Count], reference: str = OURS) -> list[str]:
    """Which variants generate other tokens than ours with the same model, one line each."""
    wanted = {c.quantization: c.token_ids for c in counts if c.variant == reference}
    lines = []
    for count in counts:
        expected = wanted.get(count.quantization, count.token_ids)
        if count.token_ids != expected:
            same = next(
                (
                    i
                    for i, pair in enumerate(zip(count.token_ids, expected, strict=False))
                    if pair[0] != pair[1]
                ),
                min(len(count.token_ids), len(expected)),
            )
            lines.append(
                f"{count.variant} {count.quantization}: differs from {reference} at token {same}"
            )
    return lines


VARIANT_OPTION = typer.Option(None, "--variant", help="Only these; by default all that can be had.")
TYPE_OPTION = typer.Option(list(TYPES), "--type", help="Quantizations.")
MODEL_OPTION = typer.Option(
    DEMO_MODEL, "--model", help="A Hugging Face folder, or one with ...-TYPE.gguf files."
)
KLEIDIAI_OPTION = typer.Option(
    None, "--kleidiai", help="Folder with KleidiAI's library and headers for arm64."
)
PROMPT_OPTION = typer.Option(PROMPT, "--prompt", help="Evaluated as it is, and doubled.")
TOKENS_OPTION = typer.Option(8, "--tokens", min=2, help="Tokens to generate.")
JSON_OPTION = typer.Option(False, "--json", help="Print the counts as JSON.")
BUILD_ONLY_OPTION = typer.Option(False, "--build-only", help="Compile, and count nothing.")


def main(
    variant: list[str] | None = VARIANT_OPTION,
    types: list[str] = TYPE_OPTION,
    model: Path = MODEL_OPTION,
    kleidiai: Path | None = KLEIDIAI_OPTION,
    prompt: str = PROMPT_OPTION,
    tokens: int = TOKENS_OPTION,
    as_json: bool = JSON_OPTION,
    build_only: bool = BUILD_ONLY_OPTION,
) -> None:
    """Count instructions per token of every variant and type, on a virtual board.

    One thread, one emulated core. The tables give millions of instructions, and in brackets the
    ratio to the study's recipe.
    """
    try:
        counts = _run(variant, types, model, kleidiai, prompt, tokens, build_only)
    except EdgequantError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None
    if as_json:
        typer.echo(json.dumps([count.model_dump(mode="json") for count in counts], indent=2))
    elif counts:
        typer.echo("Instruction counts under emulation, not seconds; in millions (ratio).\n")
        for what, title in (("decode", "One generated token"), ("prompt", "One prompt token")):
            typer.echo(f"{title}:\n\n{markdown_table(counts, what)}\n")
        for line in other_answers(counts):
            typer.echo(line)


def _run(
    names: Sequence[str] | None,
    types: Sequence[str],
    model: Path,
    kleidiai: Path | None,
    prompt: str,
    tokens: int,
    build_only: bool,
) -> list[Count]:
    from edgequant.build.source.lock import load_lock
    from edgequant.build.source.tree import fetch_source

    chosen = [find_variant(name) for name in names] if names else list(VARIANTS)
    if not names and kleidiai is None:
        say("KleidiAI's variants are left out: no --kleidiai")
        chosen = [variant for variant in chosen if not variant.needs_kleidiai]
    models = {} if build_only else find_models(model, types)
    source = fetch_source(load_lock())
    results = Results(cache_root() / "benchmarks" / "instructions")
    counts: list[Count] = []
    with CountingBoard() as counting:
        for variant in chosen:
            probe = build_probe(variant, source, kleidiai=kleidiai)
            if not build_only:
                counts += count_variant(
                    variant, probe, models, results, counting, prompt=prompt, tokens=tokens
                )
    return counts


if __name__ == "__main__":
    typer.run(main)
