"""Matched results as files: matched.csv, best.csv, crossovers.csv, scores.csv."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import polars as pl

from edgequant.core.errors import DataFrameError
from edgequant.matching.match import (
    BEST_SCHEMA,
    CROSSOVER_SCHEMA,
    MATCHED_SCHEMA,
    SCORE_SCHEMA,
    Mapping,
    MatchedResult,
)

_TABLES: dict[str, tuple[str, dict[str, pl.DataType]]] = {
    "matched": ("matched.csv", MATCHED_SCHEMA),
    "best": ("best.csv", BEST_SCHEMA),
    "crossovers": ("crossovers.csv", CROSSOVER_SCHEMA),
    "scores": ("scores.csv", SCORE_SCHEMA),
}
# Columns that runs of before they were added do not have: what is not known is missing.
_ADDED = {"boxed"}
FILES = tuple(file for file, _ in _TABLES.values())


def write_matched(folder: Path, result: MatchedResult) -> list[Path]:
    """Write the four tables; each file is either whole or not there.

    Args:
        folder: made if absent.
        result: what matching found.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (file, schema) in _TABLES.items():
        frame: pl.DataFrame = getattr(result, name)
        path = folder / file
        partial = path.with_name(f"{file}.partial")
        frame.select(list(schema)).write_csv(partial)
        partial.replace(path)
        paths.append(path)
    return paths


def read_matched(
    folder: Path, *, mapping: Mapping = "seconds", notes: tuple[str, ...] = ()
) -> MatchedResult:
    """Read what :func:`write_matched` wrote.

    Args:
        folder: the run folder.
        mapping: how tokens became seconds; the files do not say.
        notes: what matching noted; the files do not say.

    Raises:
        DataFrameError: a file is missing, is no CSV, or lacks a column.
    """
    tables = {name: _read(folder / file, schema) for name, (file, schema) in _TABLES.items()}
    return MatchedResult(**tables, mapping=mapping, notes=notes)


def _read(path: Path, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    try:
        text = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataFrameError(
            f"cannot be read: {error}", subject=path, next_step="run edgequant match again"
        ) from error
    for name in schema:
        if name in _ADDED and name not in text.columns:
            text = text.with_columns(pl.lit(None, dtype=pl.String).alias(name))
        if name not in text.columns:
            raise DataFrameError(f"has no column {name!r}", subject=path)
    try:
        return text.select(_parsed(name, kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as error:
        raise DataFrameError(f"has a cell of the wrong kind: {error}", subject=path) from error


def _parsed(name: str, kind: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if kind == pl.Boolean:
        return cast(pl.Expr, pl.when(column.is_not_null()).then(column == "true")).alias(name)
    return column.cast(kind)
