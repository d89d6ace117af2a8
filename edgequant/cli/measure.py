"""``edgequant measure``: time every token of a model on a board."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

from edgequant.cli.output import JSON_OPTION, LARGEST_COUNT, echo, print_json, print_table

if TYPE_CHECKING:
    from edgequant.boards.profile import BoardProfile, Clock
    from edgequant.latency.measure import Latency
    from edgequant.latency.pace import Pace
    from edgequant.latency.statistics import LatencySummary, Ratio

MODELS_ARGUMENT = typer.Argument(metavar="MODEL.gguf...", help="GGUF files.")
PROMPT_OPTION = typer.Option(None, "--prompt", help="Prompt; by default the study's.")
PROMPT_FILE_OPTION = typer.Option(None, "--prompt-file", help="File with the prompt.")
TOKENS_OPTION = typer.Option(
    128, "-n", "--tokens", min=2, max=LARGEST_COUNT, help="Tokens to generate in each run."
)
REPEATS_OPTION = typer.Option(
    3, "--repeats", min=1, max=LARGEST_COUNT, help="Runs of each model, interleaved."
)
THREADS_OPTION = typer.Option(
    None, "--threads", min=1, max=LARGEST_COUNT, help="By default the profile's."
)
REPACK_OPTION = typer.Option(
    True,
    "--repack/--no-repack",
    help="Repack weights into a second copy; off for models that are streamed from storage.",
)
CACHE_K_OPTION = typer.Option("f16", "--cache-type-k", help="Type of the cache of keys.")
CACHE_V_OPTION = typer.Option("f16", "--cache-type-v", help="Type of the cache of values.")
PROMPT_LENGTHS_OPTION = typer.Option(
    None,
    "--prompt-lengths",
    metavar="TOKENS,...|none",
    help="Lengths of further prompts, run once for a few tokens; by default half and double.",
)
CLOCK_OPTION = typer.Option(
    None,
    "--clock",
    help="Of a virtual board: instructions (default; a nanosecond is an instruction, and times "
    "repeat) or host (times depend on what else this machine does).",
)
OUT_OPTION = typer.Option(None, "--out", help="Also copy latency.parquet and manifest.json here.")
FORCE_OPTION = typer.Option(False, "--force", help="Measure again, also what is there.")


def command(
    board: str = typer.Argument(help="A board's name, or the path of its profile."),
    models: list[Path] = MODELS_ARGUMENT,
    prompt: str | None = PROMPT_OPTION,
    prompt_file: Path | None = PROMPT_FILE_OPTION,
    tokens: int = TOKENS_OPTION,
    repeats: int = REPEATS_OPTION,
    threads: int | None = THREADS_OPTION,
    repack: bool = REPACK_OPTION,
    cache_type_k: str = CACHE_K_OPTION,
    cache_type_v: str = CACHE_V_OPTION,
    prompt_lengths: str | None = PROMPT_LENGTHS_OPTION,
    clock: str | None = CLOCK_OPTION,
    out: Path | None = OUT_OPTION,
    force: bool = FORCE_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Time every token of one or more models on a board, by the board's own clock.

    The probe is built and copied, and so are the models, where the board lacks them; a virtual
    board that is down is started, and stopped afterwards. The figure
    of a run is the median time of a decoded token; a series that spreads too wide around its trend
    is UNRELIABLE. Prompts of other lengths are run once for a few tokens, so that what a prompt
    and a later token cost is fitted to at least three lengths.

    Example: edgequant measure rk3568 model-Q2_K.gguf model-Q8_0.gguf -n 64 --no-repack
    """
    from edgequant.boards.profile import load_profile
    from edgequant.boards.session import session
    from edgequant.build.build import build
    from edgequant.core.errors import ProbeError
    from edgequant.latency.measure import MeasureSettings, find_latency, measure, name_models
    from edgequant.latency.probe import CACHE_TYPES, PROBE_NAME
    from edgequant.models.formats.gguf import read_gguf

    for option, value in (("--cache-type-k", cache_type_k), ("--cache-type-v", cache_type_v)):
        if value not in CACHE_TYPES:
            raise typer.BadParameter(
                f"{value!r} is none of {', '.join(CACHE_TYPES)}", param_hint=option
            )
    text = _prompt(prompt, prompt_file)
    profile = load_profile(board)
    chosen = _clock(profile, clock)
    lengths = _lengths(prompt_lengths)
    settings = MeasureSettings(
        tokens, repeats, threads, repack, cache_type_k, cache_type_v, lengths
    )
    settings.check(profile, chosen)
    named = name_models(models, lambda path: read_gguf(path).file_type)
    built = build(profile.build.target, tools=[PROBE_NAME])
    found = (
        None
        if force
        else find_latency(profile, named, settings, build=built, prompt=text, clock=chosen)
    )
    if found is None:
        with session(profile, chosen) as connected:
            found = measure(
                connected, named, settings, build=built, prompt=text, clock=chosen, force=force
            )
    if out is not None:
        _copy(found, out)
    if as_json:
        print_json(_as_dict(found))
    else:
        _print(found)
    if any(summary.n == 0 for summary in found.summaries):
        # The table says which model failed and why; a script must see it too.
        raise typer.Exit(ProbeError.exit_code)


def _clock(profile: BoardProfile, asked: str | None) -> Clock:
    from edgequant.boards.session import clock_of

    if asked not in (None, "host", "instructions"):
        raise typer.BadParameter(
            f"{asked!r} is neither 'host' nor 'instructions'", param_hint="--clock"
        )
    if asked == "instructions" and profile.kind != "virtual":
        raise typer.BadParameter("only a virtual board can count", param_hint="--clock")
    return clock_of(profile, "host" if asked == "host" else None)


def _lengths(asked: str | None) -> tuple[int, ...] | None:
    if asked is None:
        return None
    if asked == "none":
        return ()
    try:
        lengths = tuple(int(length) for length in asked.split(","))
    except ValueError:
        lengths = ()
    if not lengths or not all(1 <= length <= LARGEST_COUNT for length in lengths):
        raise typer.BadParameter(
            f"{asked!r} is no list of numbers such as 64,256", param_hint="--prompt-lengths"
        )
    return lengths


def _prompt(prompt: str | None, prompt_file: Path | None) -> str:
    from edgequant.core.errors import PromptError
    from edgequant.latency.measure import DEFAULT_PROMPT

    if prompt is not None and prompt_file is not None:
        raise typer.BadParameter("give --prompt or --prompt-file, not both")
    if prompt_file is None:
        return DEFAULT_PROMPT if prompt is None else prompt
    try:
        return prompt_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"cannot be read as text: {error}", subject=prompt_file) from error


def _copy(latency: Latency, out: Path) -> None:
    from edgequant.core.files import copy_whole

    out.mkdir(parents=True, exist_ok=True)
    for source in (latency.path, latency.artefact.folder / "manifest.json"):
        copy_whole(source, out / source.name)


def _as_dict(latency: Latency) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "artefact": str(latency.artefact.folder),
        "reused": latency.reused,
        "parameters": latency.artefact.manifest.parameters,
        "quantizations": [summary.as_dict() for summary in latency.summaries],
        "ratios": [asdict(ratio) for ratio in latency.ratios()],
        "paces": [_pace_as_dict(pace) for pace in latency.paces],
    }


def _pace_as_dict(pace: Pace) -> dict[str, object]:
    """A pace without its measured points, which are the table's rows."""
    from dataclasses import asdict

    values = asdict(pace)
    for name, curve in (("prefill", pace.prefill), ("decode", pace.decode)):
        values[name] = None if curve is None else asdict(curve.trend)
    return values


def _print(latency: Latency) -> None:
    ratios = {ratio.quantization: ratio for ratio in latency.ratios()}
    paces = {pace.quantization: pace for pace in latency.paces}
    parameters = latency.artefact.manifest.parameters
    sources = sorted({s.latency_source or "unknown" for s in latency.summaries})
    unit = _unit([s.p99_seconds for s in latency.summaries])
    print_table(
        ("model", "n", "median", "p90", "p99", "TTFT", "ratio", "spread"),
        [_row(summary, ratios.get(summary.quantization), unit) for summary in latency.summaries],
        title=f"{unit.name} per token on {parameters['board']} ({', '.join(sources)})",
    )
    for summary in latency.summaries:
        for line in _remarks(summary, ratios.get(summary.quantization), unit):
            echo(line)
        if summary.quantization in paces:
            echo(_fitted(paces[summary.quantization], unit))
    if parameters.get("clock") == "instructions":
        echo("Clock: one nanosecond for each instruction executed, on one core (emulated)")
    echo(f"{'Found' if latency.reused else 'Written'}: {latency.path}")


class _Unit(NamedTuple):
    name: str
    symbol: str
    seconds: float

    def show(self, seconds: float | None) -> str | None:
        return None if seconds is None else f"{seconds / self.seconds:.4g}"


def _unit(values: Sequence[float | None]) -> _Unit:
    """Seconds, or milliseconds where every value is below one tenth of a second."""
    largest = max((value for value in values if value is not None), default=1.0)
    return _Unit("Milliseconds", "ms", 1e-3) if largest < 0.1 else _Unit("Seconds", "s", 1.0)


def _row(summary: LatencySummary, ratio: Ratio | None, unit: _Unit) -> tuple[object, ...]:
    if summary.spread is None:
        spread = "FAILED"
    else:
        spread = f"{summary.spread:.3f}" + ("" if summary.reliable else " UNRELIABLE")
    return (
        summary.quantization,
        summary.n,
        unit.show(summary.median_seconds),
        unit.show(summary.p90_seconds),
        unit.show(summary.p99_seconds),
        unit.show(summary.ttft_seconds),
        None if ratio is None else f"{ratio.ratio:.3f}",
        spread,
    )


def _fitted(pace: Pace, unit: _Unit) -> str:
    """What was fitted to the rows, and how far it lies from rows that it has not seen."""
    prompt, token, errors = pace.prefill, pace.decode, pace.errors
    if prompt is None or token is None or errors is None or errors.depths is None:
        return f"{pace.quantization}: no fit"
    curved = f" + {unit.show(prompt.trend.quadratic)} x tokens^2" if prompt.trend.quadratic else ""
    lengths = ", ".join(map(str, errors.prompt_tokens))
    return (
        f"{pace.quantization}: fitted {unit.symbol}: prompt {unit.show(prompt.trend.fixed)} + "
        f"{unit.show(prompt.trend.linear)} x tokens{curved} at {lengths} tokens (off by "
        f"{_percent(errors.prefill_fit)}, held out {_percent(errors.prefill_held_out)}); token "
        f"{unit.show(token.trend.fixed)} + {unit.show(token.trend.linear)} x depth at depths "
        f"{errors.depths[0]} to {errors.depths[1]} (off by {_percent(errors.decode_fit)}, held out "
        f"{_percent(errors.decode_held_out)})"
    )


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{100 * share:.2g} %"


def _remarks(summary: LatencySummary, ratio: Ratio | None, unit: _Unit) -> list[str]:
    name = summary.quantization
    remarks = []
    if summary.median_interval is not None:
        low, high = summary.median_interval.low, summary.median_interval.high
        line = f"{name}: median {unit.show(low)} to {unit.show(high)} {unit.symbol} (95 %)"
        if ratio is not None and ratio.interval is not None and ratio.reference != name:
            line += f", {ratio.interval.low:.3f} to {ratio.interval.high:.3f} x {ratio.reference}"
        remarks.append(line)
    if summary.prompt_tokens is not None:
        line = (
            f"{name}: prompt of {summary.prompt_tokens} tokens, "
            f"{unit.show(summary.prefill_seconds_per_token)} {unit.symbol} each; loading "
            f"{unit.show(summary.load_seconds)} {unit.symbol} (not in TTFT)"
        )
        if summary.resident_bytes is not None:
            line += f"; {summary.resident_bytes / 1e6:.0f} MB resident"
        if summary.major_faults_per_token is not None:
            line += f"; {summary.major_faults_per_token:.1f} major faults a token"
        if summary.read_bytes_per_token is not None:
            line += f"; {summary.read_bytes_per_token / 1e6:.1f} MB read a token"
        remarks.append(line)
    if not summary.reliable:
        word = "FAILED" if summary.n == 0 else "UNRELIABLE"
        remarks.append(f"{name}: {word}: {summary.unreliable_because}")
    if summary.error is not None:
        remarks.append(f"{name}: {summary.failed_repeats} failed: {summary.error}")
    return remarks
