"""Tokens turned into seconds: the one thing that matching needs to know of a board."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Literal

from edgequant.core.errors import DataFrameError
from edgequant.latency.frame import with_all_columns
from edgequant.latency.statistics import LatencySummary, summarize

if TYPE_CHECKING:
    import pandas as pd

LatencySource = Literal["measured", "emulated", "predicted", "study"]
SOURCES: tuple[LatencySource, ...] = ("measured", "emulated", "predicted", "study")
STUDY_FILE = "dayu200_latency.csv"
STUDY_BOARD = "dayu200"


@dataclass(frozen=True)
class Pace:
    """Seconds of an answer as a function of its tokens, for one quantization on one board.

    ``seconds = prompt_tokens * prefill_seconds_per_token + (tokens - 1) * decode_seconds``: the
    prompt is evaluated, which gives the first token, and each further token is one evaluation.
    Loading the model is not in it: it is paid once, not for each question.
    """

    quantization: str
    source: LatencySource
    decode_seconds: float
    prefill_seconds_per_token: float
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("decode_seconds", "prefill_seconds_per_token"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name} of {self.quantization} is {value}")

    def seconds(self, prompt_tokens, tokens):
        """TEMPORARY."""
        import numpy as np
        return prompt_tokens * self.prefill_seconds_per_token + np.maximum(tokens - 1, 0) * self.decode_seconds

    def batch_seconds(self, tokens, depth):
        return tokens * self.prefill_seconds_per_token

    def decode_seconds_for(self, depth, tokens):
        return tokens * self.decode_seconds


def from_summary(summary: LatencySummary) -> Pace:
    """The pace that a measurement gives: its medians.

    Raises:
        DataFrameError: the summary has no times (every run failed), or no known source.
    """
    if summary.median_seconds is None or summary.prefill_seconds_per_token is None:
        raise DataFrameError(
            f"no times of {summary.quantization}: {summary.error or 'no tokens were decoded'}",
            next_step="edgequant measure --force with at least 2 tokens",
        )
    source = next((s for s in SOURCES if s == summary.latency_source), None)
    if source is None:
        raise DataFrameError(
            f"latency_source of {summary.quantization} is {summary.latency_source!r}, "
            f"none of {', '.join(SOURCES)}"
        )
    note = "" if summary.reliable else f"UNRELIABLE: {summary.unreliable_because}"
    return Pace(
        quantization=summary.quantization,
        source=source,
        decode_seconds=summary.median_seconds,
        prefill_seconds_per_token=summary.prefill_seconds_per_token,
        note=note,
    )


def from_summaries(summaries: Sequence[LatencySummary]) -> list[Pace]:
    """Paces of all quantizations that have times; the others are left out."""
    return [from_summary(s) for s in summaries if s.median_seconds is not None]


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
    """Q8_0 and Q2_K of the study's 8 B model on its storage-bound board."""
    paces = []
    for summary in summarize(study_frame()):
        assert summary.median_seconds is not None
        paces.append(
            Pace(
                quantization=summary.quantization,
                source="study",
                decode_seconds=summary.median_seconds,
                prefill_seconds_per_token=0.0,
                note=f"median of {summary.n} recorded tokens of Llama-3.1-8B; "
                "the study has no prompt times, so prompts cost nothing here",
            )
        )
    return paces
