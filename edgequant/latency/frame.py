"""The table of latencies: one row for each load, prefill and decoded token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from edgequant.core.errors import DataFrameError
from edgequant.latency.probe import ProbeRun, ProbeStep

SCHEMA: dict[str, type[pl.DataType]] = {
    "board": pl.String,
    "quantization": pl.String,
    "repeat": pl.Int64,
    "phase": pl.String,
    "index": pl.Int64,
    "token_id": pl.Int64,
    "piece": pl.String,
    "seconds": pl.Float64,
    "prompt_tokens": pl.Int64,
    "major_faults": pl.Int64,
    "minor_faults": pl.Int64,
    "read_bytes": pl.Int64,
    "resident_bytes": pl.Int64,
    "frequency_hz": pl.Int64,
    "temperature_celsius": pl.Float64,
    "failed": pl.Boolean,
    "error": pl.String,
    "model_sha256": pl.String,
    "latency_source": pl.String,
}
"""Columns of ``latency.parquet``. ``phase`` is "load", "prefill" or "decode"; a run that failed is
one row with ``failed`` true, its ``error``, and no phase and no seconds."""

REQUIRED = ("quantization", "phase", "seconds")

Row = dict[str, object]


def run_rows(
    run: ProbeRun,
    *,
    board: str,
    quantization: str,
    repeat: int,
    model_sha256: str,
    latency_source: str,
) -> list[Row]:
    """Rows of one successful run: load, prefill (index 0), then decode from index 1 on.

    The prefill's seconds are the time to the first token: evaluating the prompt and picking the
    token from it. What loading took stands in its own row.
    """
    common: Row = {
        "board": board,
        "quantization": quantization,
        "repeat": repeat,
        "prompt_tokens": run.start.prompt_tokens,
        "failed": False,
        "model_sha256": model_sha256,
        "latency_source": latency_source,
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


def failed_row(
    error: str,
    *,
    board: str,
    quantization: str,
    repeat: int,
    model_sha256: str,
    latency_source: str,
) -> Row:
    """The row of a run that failed."""
    return {
        "board": board,
        "quantization": quantization,
        "repeat": repeat,
        "failed": True,
        "error": error,
        "model_sha256": model_sha256,
        "latency_source": latency_source,
    }


def make_frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows as a table with all columns of :data:`SCHEMA`; what a row lacks is null."""
    return pl.DataFrame(
        {name: [row.get(name) for row in rows] for name in SCHEMA}, schema=SCHEMA, strict=True
    )


def with_all_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column of :data:`SCHEMA`, missing ones null, ``failed`` false.

    Raises:
        DataFrameError: quantization, phase or seconds is missing, or a column is of another kind.
    """
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise DataFrameError(f"the latency table has no column {', '.join(missing)}")
    try:
        return frame.select(
            (pl.col(name) if name in frame.columns else pl.lit(None).alias(name)).cast(kind)
            for name, kind in SCHEMA.items()
        ).with_columns(pl.col("failed").fill_null(False))
    except pl.exceptions.PolarsError as error:
        raise DataFrameError(f"the latency table is malformed: {error}") from error


def read_latency(path: Path) -> pl.DataFrame:
    """Read a ``latency.parquet``.

    Raises:
        DataFrameError: the file is missing, not Parquet, or lacks columns.
    """
    try:
        frame = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataFrameError(f"cannot be read: {error}", subject=path) from error
    return with_all_columns(frame)


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
