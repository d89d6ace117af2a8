"""Tokens turned into seconds: the one thing that matching needs to know of a board."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from edgequant.latency.curve import Amount, Curve, Floats, Trend
from edgequant.latency.frame import with_all_columns
from edgequant.latency.statistics import summarize

if TYPE_CHECKING:
    import pandas as pd

LatencySource = Literal["measured", "emulated", "predicted", "study"]
SOURCES: tuple[LatencySource, ...] = ("measured", "emulated", "predicted", "study")
BATCH_TOKENS = 512
"""Prompt tokens that share one pass over the weights: the probe's batch, and llama.cpp's."""
STUDY_FILE = "dayu200_latency.csv"
STUDY_BOARD = "dayu200"


@dataclass(frozen=True)
class FitErrors:
    """How far a pace lies from what was measured, in parts of it. None is missing, never zero."""

    prompt_tokens: tuple[int, ...]
    """Lengths of the prompts that were measured."""
    depths: tuple[int, int] | None
    """The smallest and the largest number of tokens in the cache before a measured token."""
    prefill_fit: float | None
    """Mean absolute error of the fitted trend over the measured prompts."""
    decode_fit: float | None
    """Mean absolute error of the fitted trend over the measured tokens."""
    prefill_held_out: float | None
    """The same for a prompt that the fit has not seen: each length predicted from the others."""
    decode_held_out: float | None
    """The same for the tokens after a prompt whose run the fit has not seen."""


@dataclass(frozen=True)
class Pace:
    """Seconds of an answer as a function of its tokens, for one quantization on one board.

    Evaluating the prompt gives the first token; each further token is one evaluation, which takes
    longer the more tokens are in the cache (``fixed + linear * depth``). Loading the model is not
    in it: it is paid once, not for each question.

    A pace of two numbers alone is flat: every token takes ``decode_seconds``, every prompt token
    ``prefill_seconds_per_token``. All methods take numbers or arrays, which broadcast, and give
    seconds of the same shape; they never fall when an argument rises, and are never negative.
    """

    quantization: str
    source: LatencySource
    decode_seconds: float
    """Of a typical token: the median of those that were measured."""
    prefill_seconds_per_token: float
    """Of a prompt of the measured length, in parts of its tokens."""
    note: str = ""
    prefill: Curve | None = None
    """Prompt tokens to seconds; None: proportional to the tokens."""
    decode: Curve | None = None
    """Tokens in the cache to the seconds of one more; None: the same for each."""
    first_step_seconds: float = 0.0
    """What the first decode step after a prompt or a batch takes on top: llama.cpp plans anew for
    single tokens."""
    pass_seconds: float = 0.0
    """One pass over the weights: no batch of up to :data:`BATCH_TOKENS` tokens takes less."""
    errors: FitErrors | None = None
    """None: it was not fitted."""

    def __post_init__(self) -> None:
        for name in (
            "decode_seconds",
            "prefill_seconds_per_token",
            "first_step_seconds",
            "pass_seconds",
        ):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} of {self.quantization} is {value}")

    @overload
    def first_token_seconds(self, prompt_tokens: float) -> float: ...
    @overload
    def first_token_seconds(self, prompt_tokens: Floats) -> Floats: ...
    def first_token_seconds(self, prompt_tokens: Amount) -> Amount:
        """Seconds from the question to its answer's first token (TTFT)."""
        return _shaped(np.maximum(self._prefill.at(prompt_tokens), self._passes(prompt_tokens)))

    @overload
    def decode_seconds_for(self, depth: float, tokens: float) -> float: ...
    @overload
    def decode_seconds_for(self, depth: Floats, tokens: Amount) -> Floats: ...
    @overload
    def decode_seconds_for(self, depth: Amount, tokens: Floats) -> Floats: ...
    def decode_seconds_for(self, depth: Amount, tokens: Amount) -> Amount:
        """Seconds of ``tokens`` decode steps, the first with ``depth`` tokens in the cache.

        They are taken to follow a prompt or a batch, whose change to single tokens they pay.
        """
        steps = np.maximum(np.asarray(tokens, dtype=np.float64), 0.0)
        change = np.minimum(steps, 1.0) * self.first_step_seconds
        return _shaped(np.asarray(self._steps(depth, steps) + change))

    @overload
    def batch_seconds(self, tokens: float, depth: float) -> float: ...
    @overload
    def batch_seconds(self, tokens: Floats, depth: Amount) -> Floats: ...
    @overload
    def batch_seconds(self, tokens: Amount, depth: Floats) -> Floats: ...
    def batch_seconds(self, tokens: Amount, depth: Amount) -> Amount:
        """Seconds of one pass over ``tokens`` given tokens with ``depth`` tokens in the cache.

        What as many more tokens add to a prompt of that depth, and the fixed cost of a prompt:
        at least one decode step, at most as many as there are tokens.
        """
        start = np.asarray(depth, dtype=np.float64)
        more = np.maximum(np.asarray(tokens, dtype=np.float64), 0.0)
        trend = self._prefill.trend
        together = trend.at(start + more) - trend.at(start) + trend.fixed
        together = np.maximum(together, self._passes(more))
        singly, one = self._steps(start, more), self._steps(start, np.minimum(more, 1.0))
        return _shaped(np.maximum(np.minimum(together, singly), one))

    @overload
    def seconds(self, prompt_tokens: float, tokens: float) -> float: ...
    @overload
    def seconds(self, prompt_tokens: Floats, tokens: Amount) -> Floats: ...
    @overload
    def seconds(self, prompt_tokens: Amount, tokens: Floats) -> Floats: ...
    def seconds(self, prompt_tokens: Amount, tokens: Amount) -> Amount:
        """Seconds from the question to the end of the last of ``tokens`` tokens."""
        prompt = np.asarray(prompt_tokens, dtype=np.float64)
        further = np.asarray(tokens, dtype=np.float64) - 1
        return _shaped(
            np.asarray(self.first_token_seconds(prompt) + self.decode_seconds_for(prompt, further))
        )

    @cached_property
    def _prefill(self) -> Curve:
        return self.prefill or Curve(Trend(0.0, self.prefill_seconds_per_token))

    @cached_property
    def _decode(self) -> Curve:
        return self.decode or Curve(Trend(self.decode_seconds))

    def _steps(self, depth: Amount, steps: Amount) -> Floats:
        start = np.asarray(depth, dtype=np.float64)
        summed = self._decode.sum_below(start + steps) - self._decode.sum_below(start)
        return np.asarray(np.maximum(summed, 0.0))

    def _passes(self, tokens: Amount) -> Floats:
        """The least that a batch takes: also a prompt of no tokens has its first one."""
        batches = np.ceil(np.asarray(tokens, dtype=np.float64) / BATCH_TOKENS)
        return np.asarray(np.maximum(batches, 1.0) * self.pass_seconds)


def study_frame() -> pd.DataFrame:
    """The study's recorded series as a latency table (decode rows alone, ``repeat`` 1).

    The recording numbers its tokens 1 to 19 and has neither prompt nor load times; all 19 are
    taken as decoded tokens, as the study does.
    """
    import pandas as pd

    file = resources.files("edgequant.latency") / "data" / STUDY_FILE
    recorded = pd.read_csv(io.BytesIO(file.read_bytes()))
    return with_all_columns(
        pd.DataFrame(
            {
                "board": STUDY_BOARD,
                "quantization": recorded["quantization"],
                "repeat": 1,
                "phase": "decode",
                # What the recording calls token_id counts the tokens.
                "index": recorded["token_id"],
                "seconds": recorded["seconds"],
                "latency_source": "study",
            }
        )
    )


def study_paces() -> list[Pace]:
    """Q8_0 and Q2_K of the study's 8 B model on its storage-bound board.

    It read the whole file for every token, so a prompt, whose tokens share a pass, took at least
    as long as one token; more than that was not recorded.
    """
    paces = []
    for summary in summarize(study_frame()):
        assert summary.median_seconds is not None
        paces.append(
            Pace(
                quantization=summary.quantization,
                source="study",
                decode_seconds=summary.median_seconds,
                prefill_seconds_per_token=0.0,
                note=f"median of {summary.n} recorded tokens of Llama-3.1-8B; the study has no "
                "prompt times, so a prompt costs one pass over the file, as a token does, for "
                f"each {BATCH_TOKENS} tokens of it",
                pass_seconds=summary.median_seconds,
            )
        )
    return paces


def _shaped(seconds: Floats) -> Amount:
    """A number where numbers went in."""
    return seconds if seconds.ndim else float(seconds)
