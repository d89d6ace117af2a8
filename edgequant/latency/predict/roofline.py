"""Latency predicted from a board's profile and a model's size: a roofline with two roofs.

A decoded token needs every weight once and a known number of instructions, so it takes at least

    bytes / bandwidth            and            instructions / (cores * clock * per cycle)

and the prediction is the larger. Bandwidth and bytes depend on where the weights come from:

- they fit in RAM: DRAM's bandwidth, and the bytes of the tensors that a token reads;
- they do not: the storage's bandwidth, and the bytes of the whole file. A cyclic read of a file
  larger than the page cache keeps nothing of it under LRU, so each token reads all of it again.
  The study's two files, 3.168 GB in 18.18 s and 8.536 GB in 49.73 s, give 174 and 172 MB/s.

Instructions grow with the tokens in the cache, bytes are taken not to. A prompt takes the larger of
its instructions and one pass over the weights for each batch of 512 of its tokens.

What it leaves out makes it a lower bound: caches, imperfect splitting over cores, reading the cache
of keys and values, and storage and computing not overlapping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from edgequant.core.errors import ProfileError
from edgequant.latency.curve import MOST_STEPS, Curve, Trend
from edgequant.latency.pace import Pace
from edgequant.latency.predict.instructions import InstructionCounts

if TYPE_CHECKING:
    from edgequant.boards.profile import BoardProfile

RESERVED_BYTES = 300_000_000
"""RAM that the system, the cache of keys and values and the buffers keep from the weights."""
DEFAULT_INSTRUCTIONS_PER_CYCLE = 1.0
"""Where a profile assumes nothing: an in-order dual-issue core on vector code with loads."""

Bound = Literal["storage", "dram", "compute"]
_Value = TypeVar("_Value", int, float)


@dataclass(frozen=True)
class ModelSize:
    """How many bytes a model has, and how many of them one token reads.

    Both come from :mod:`edgequant.models.formats.gguf`: ``read_gguf(path).file_bytes`` and
    ``bytes_per_token(info)``.
    """

    file_bytes: int
    bytes_per_token: int


@dataclass(frozen=True)
class Prediction:
    """A predicted latency, with each roof and which of them is the higher.

    The figures of one token are those of one decoded after a usual prompt.
    """

    quantization: str
    fits_in_ram: bool
    bandwidth_seconds: float
    """Of one decoded token."""
    compute_seconds: float | None
    """Of one decoded token; None where its instructions were not counted."""
    bound: Bound
    prefill_bound: Bound
    pace: Pace


def fits_in_ram(file_bytes: int, ram_bytes: int) -> bool:
    """Whether a mapped model stays in RAM beside what the system needs (not repacked)."""
    return file_bytes + RESERVED_BYTES <= ram_bytes


def predict_one(
    profile: BoardProfile,
    quantization: str,
    size: ModelSize,
    instructions: InstructionCounts | None = None,
    *,
    prompt_tokens: int = 128,
) -> Prediction:
    """Predict one quantization's latency on a board that nobody measured.

    Args:
        profile: ram, bandwidths, cores and clock of the board.
        quantization: its name.
        size: the model's bytes.
        instructions: counted on one thread of a board of the same instruction set; they are
            split over the cores. None predicts from the bandwidth alone.
        prompt_tokens: length of a usual prompt, for the figures that stand for one; the pace holds
            for all.

    Raises:
        ProfileError: the profile lacks a figure that is needed.
    """
    if prompt_tokens < 1:
        raise ValueError(f"prompt_tokens is {prompt_tokens}")
    ram_bytes = _need(profile, "memory.ram_bytes", profile.memory.ram_bytes)
    fits = fits_in_ram(size.file_bytes, ram_bytes)
    if fits:
        memory: Bound = "dram"
        bandwidth = _need(
            profile, "memory.dram_bytes_per_second", profile.memory.dram_bytes_per_second
        )
        pass_seconds = size.bytes_per_token / bandwidth
    else:
        memory = "storage"
        bandwidth = _need(profile, "storage.bytes_per_second", profile.storage.bytes_per_second)
        pass_seconds = size.file_bytes / bandwidth
    rate, assumption = (1.0, "instructions not counted")
    counts = instructions
    if counts is None:
        counts = InstructionCounts(Trend(0.0), Trend(0.0))
    else:
        rate, assumption = _instruction_rate(profile)
    compute = counts.decode.scaled(1 / rate)
    prompt = counts.prompt.scaled(1 / rate)
    pace = Pace(
        quantization=quantization,
        source="predicted",
        decode_seconds=max(pass_seconds, float(compute.at(prompt_tokens))),
        prefill_seconds_per_token=0.0,
        prefill=Curve(prompt),
        decode=_no_less(compute, pass_seconds),
        first_step_seconds=counts.first_step / rate,
        pass_seconds=pass_seconds,
    )
    prompt_seconds = pace.first_token_seconds(prompt_tokens)
    compute_seconds = None if instructions is None else float(compute.at(prompt_tokens))
    bound: Bound = "compute" if pace.decode_seconds > pass_seconds else memory
    note = (
        f"{bound}-bound: {_amount(pass_seconds)} s to read "
        f"{(size.bytes_per_token if fits else size.file_bytes) / 1e6:.1f} MB from {memory}"
    )
    if compute_seconds is not None:
        note += (
            f", {_amount(compute_seconds)} s to compute a token after {prompt_tokens}, "
            f"{_amount(compute.linear)} s more for each before it"
        )
    return Prediction(
        quantization=quantization,
        fits_in_ram=fits,
        bandwidth_seconds=pass_seconds,
        compute_seconds=compute_seconds,
        bound=bound,
        prefill_bound="compute" if prompt_seconds == float(prompt.at(prompt_tokens)) else memory,
        pace=replace(
            pace,
            prefill_seconds_per_token=prompt_seconds / prompt_tokens,
            note=f"{note} ({assumption})",
        ),
    )


def _no_less(trend: Trend, floor: float) -> Curve:
    """The trend where it lies above the floor, else the floor."""
    if trend.at(0.0) >= floor:
        return Curve(trend)
    reached = (floor - trend.fixed) / trend.linear if trend.linear > 0 else math.inf
    if reached > MOST_STEPS:
        return Curve(Trend(floor))
    return Curve(trend, (0.0, reached), (floor, floor))


def predict(
    profile: BoardProfile,
    sizes: Mapping[str, ModelSize],
    instructions: Mapping[str, InstructionCounts] | None = None,
    *,
    prompt_tokens: int = 128,
) -> list[Prediction]:
    """Predict every quantization's latency; see :func:`predict_one`.

    Raises:
        ProfileError: the profile lacks a figure that is needed.
    """
    return [
        predict_one(
            profile,
            quantization,
            size,
            (instructions or {}).get(quantization),
            prompt_tokens=prompt_tokens,
        )
        for quantization, size in sizes.items()
    ]


def _instruction_rate(profile: BoardProfile) -> tuple[float, str]:
    """Instructions per second of all cores, and the assumption in words."""
    cores = _need(profile, "cpu.cores", profile.cpu.cores)
    cores = min(cores, profile.threads or cores)
    clock_hz = _need(profile, "cpu.clock_hz", profile.cpu.clock_hz)
    per_cycle = profile.cpu.instructions_per_cycle or DEFAULT_INSTRUCTIONS_PER_CYCLE
    words = f"assuming {per_cycle:g} instructions per cycle on {cores} x {clock_hz / 1e9:g} GHz"
    return cores * clock_hz * per_cycle, words


def _need(profile: BoardProfile, key: str, value: _Value | None) -> _Value:
    if value is None:
        raise ProfileError(
            f"the profile has no {key}, which a prediction needs",
            subject=f"board {profile.name}",
            next_step=f"add {key} to boards/{profile.name}.toml",
        )
    return value


def _amount(seconds: float) -> str:
    return f"{seconds:.4g}"
