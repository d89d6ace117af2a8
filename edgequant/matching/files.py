"""Matched results as files: matched.csv, budgets.csv, best.csv, crossovers.csv and so on."""

from __future__ import annotations

from pathlib import Path

from edgequant.core.schemas import BEST, BUDGETS, CROSSOVERS, MATCHED, SCORES, TASKS, Schema
from edgequant.core.tables import read_csv, write_csv
from edgequant.matching.curves import TimeMapping
from edgequant.matching.match import MatchedResult

_TABLES: dict[str, Schema] = {
    "matched": MATCHED,
    "budgets": BUDGETS,
    "best": BEST,
    "crossovers": CROSSOVERS,
    "scores": SCORES,
    "tasks": TASKS,
}


def write_matched(folder: Path, result: MatchedResult) -> list[Path]:
    """Write the tables; each file is either whole or not there.

    Args:
        folder: made if absent.
        result: what matching found.

    Returns:
        The paths written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, schema in _TABLES.items():
        path = folder / schema.file
        write_csv(getattr(result, name), path, schema)
        paths.append(path)
    return paths


def read_matched(
    folder: Path,
    *,
    mapping: TimeMapping = "seconds",
    grader: str = "exact",
    notes: tuple[str, ...] = (),
) -> MatchedResult:
    """Read what :func:`write_matched` wrote.

    Args:
        folder: the run folder.
        mapping: how tokens became seconds; the files do not say.
        grader: whose verdicts count; the files do not say.
        notes: what matching noted; the files do not say.

    Raises:
        DataFrameError: a file is missing, is no CSV, or lacks a column.
    """
    tables = {name: read_csv(folder / schema.file, schema) for name, schema in _TABLES.items()}
    return MatchedResult(**tables, mapping=mapping, grader=grader, notes=notes)
