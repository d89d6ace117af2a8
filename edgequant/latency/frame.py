"""The table of latencies: one row for each load, prefill and decoded token.

Its columns stand in :data:`edgequant.core.schemas.LATENCY`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.core.schemas import LATENCY
from edgequant.core.tables import check_table, make_table, read_table
from edgequant.latency.probe import ProbeRun, ProbeStep

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, object]


@dataclass(frozen=True)
class RunLabels:
    """What all rows of one run have in common, by the names of their columns."""

    board: str
    quantization: str
    repeat: int
    model_sha256: str
    latency_source: str


def run_rows(run: ProbeRun, labels: RunLabels) -> list[Row]:
    """Rows of one successful run: load, prefill (index 0), then decode from index 1 on.

    The prefill's seconds are the time to the first token: evaluating the prompt and picking the
    token from it. What loading took stands in its own row.
    """
    common: Row = asdict(labels) | {
        "prompt_tokens": run.start.prompt_tokens,
        "failed": False,
    }
    first = run.tokens[0]
    prefill = _step(run.prefill) | {
        "phase": "prefill",
        "index": 0,
        "token_id": first.token_id,
        "piece": first.piece,
        "seconds": run.ttft_seconds,
        "major_faults": run.prefill.major_faults + first.major_faults,
        "minor_faults": run.prefill.minor_faults + first.minor_faults,
    }
    decode = [
        _step(token)
        | {
            "phase": "decode",
            "index": token.index,
            "token_id": token.token_id,
            "piece": token.piece,
        }
        for token in run.tokens[1:]
    ]
    return [
        common | row for row in ({"phase": "load", "index": 0} | _step(run.load), prefill, *decode)
    ]


def failed_row(error: str, labels: RunLabels) -> Row:
    """The row of a run that failed."""
    return asdict(labels) | {"failed": True, "error": error}


def make_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a table with all columns of the schema; what a row lacks is empty."""
    return _without_doubt(make_table(rows, LATENCY))


def with_all_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every column of the schema, missing ones empty, ``failed`` false.

    Raises:
        DataFrameError: quantization, phase or seconds is missing, or a column is of another kind.
    """
    return _without_doubt(check_table(frame, LATENCY))


def read_latency(path: Path) -> pd.DataFrame:
    """Read a ``latency.parquet``.

    Raises:
        DataFrameError: the file is missing, not Parquet, or lacks columns.
    """
    return _without_doubt(read_table(path, LATENCY))


def _without_doubt(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(failed=frame["failed"].fillna(False))


def _step(step: ProbeStep) -> Row:
    return {
        "seconds": step.seconds,
        "major_faults": step.major_faults,
        "minor_faults": step.minor_faults,
        "read_bytes": step.read_bytes,
        "resident_bytes": step.resident_bytes,
        "frequency_hz": step.frequency_hz,
        "temperature_celsius": step.temperature_celsius,
    }
