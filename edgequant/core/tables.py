"""Tables: pandas frames over Arrow columns, checked against their schema wherever they come in.

Every column is Arrow-backed: an empty cell stays empty (``pd.NA``), whole numbers stay whole, and
lists are no Python objects until somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgequant.core.errors import DataFrameError
from edgequant.core.files import whole_file, write_text_whole
from edgequant.core.schemas import KIND_WORDS, Column, Kind, Schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Row = Mapping[str, object]


def make_table(rows: Iterable[Row], schema: Schema) -> pd.DataFrame:
    """Rows as a table; what a row lacks is empty.

    Raises:
        DataFrameError: a cell is of another kind, or empty where it must not be.
    """
    import pyarrow as pa

    kept = list(rows)
    arrays = {}
    for name, column in schema.columns.items():
        cells = [row.get(name) for row in kept]
        try:
            arrays[name] = pa.array(cells, type=_arrow_type(column.kind))
        except (pa.ArrowException, OverflowError) as error:
            raise _wrong_kind(schema, name, column, str(error)) from error
    return _framed(_checked(pa.table(arrays), schema))


def check_table(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """The frame's columns as the schema has them: in its order, of its kinds, without others.

    Raises:
        DataFrameError: a column is missing, of another kind, or has empty cells; it is named.
    """
    import pyarrow as pa

    arrays = {}
    for name, column in schema.columns.items():
        if name in frame.columns:
            try:
                array = pa.array(frame[name], from_pandas=True)
            except (pa.ArrowException, OverflowError) as error:
                raise _wrong_kind(schema, name, column, str(error)) from error
            arrays[name] = array
    return _framed(_checked(pa.table(arrays), schema))


def read_table(path: Path, schema: Schema) -> pd.DataFrame:
    """Read a Parquet file.

    Raises:
        DataFrameError: it is missing or not Parquet, or as :func:`check_table`; with the path.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # A file, not a folder's worth of them, whatever its name; only the columns that are known.
        with path.open("rb") as stream, pq.ParquetFile(stream) as file:
            kept = [name for name in schema.columns if name in file.schema_arrow.names]
            table = file.read(columns=kept)
    except (OSError, pa.ArrowException) as error:
        raise DataFrameError(f"cannot be read as Parquet: {error}", subject=path) from error
    return _framed(_checked(table, schema, path))


def write_table(frame: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Write a Parquet file, whole or not at all.

    Raises:
        DataFrameError: as :func:`check_table`.
    """
    import pyarrow.parquet as pq

    table = _arrow(check_table(frame, schema))
    with whole_file(path) as partial:
        pq.write_table(table.replace_schema_metadata(None), partial, compression="zstd")


def read_csv(path: Path, schema: Schema) -> pd.DataFrame:
    """Read what :func:`write_csv` wrote.

    Raises:
        DataFrameError: it is missing or no CSV, or as :func:`check_table`; with the path.
    """
    import pyarrow as pa
    from pyarrow import csv

    options = csv.ConvertOptions(
        column_types={name: _arrow_type(c.kind) for name, c in schema.columns.items()},
        null_values=[""],
        strings_can_be_null=True,
        # An empty text is written with quotes, an empty cell without.
        quoted_strings_can_be_null=False,
    )
    try:
        with path.open("rb") as stream:
            table = csv.read_csv(stream, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise DataFrameError(f"cannot be read as CSV: {error}", subject=path) from error
    return _framed(_checked(table, schema, path))


def write_csv(frame: pd.DataFrame, path: Path, schema: Schema) -> None:
    """Write a CSV file, whole or not at all; numbers with all their digits.

    Raises:
        DataFrameError: as :func:`check_table`.
    """
    write_text_whole(path, csv_text(check_table(frame, schema)))


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV: an empty cell is nothing, an empty text a pair of quotes."""
    return rows_csv_text(list(frame.columns), records(frame))


def rows_csv_text(columns: Sequence[str], rows: Iterable[Row]) -> str:
    """Some columns of rows of plain Python values, as :func:`csv_text` writes a table."""
    lines = [[_cell(row[name]) for name in columns] for row in rows]
    return "".join(",".join(line) + "\n" for line in [list(columns), *lines])


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as plain Python values; an empty cell is None."""
    return list(_arrow(frame).to_pylist())


def values(column: pd.Series[Any]) -> list[Any]:
    """A column's cells as plain Python values; an empty one is None."""
    import pyarrow as pa

    return list(pa.array(column, from_pandas=True).to_pylist())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        quoted = not value or any(mark in value for mark in ',"\r\n')
        return '"' + value.replace('"', '""') + '"' if quoted else value
    return repr(value)


def _arrow_type(kind: Kind) -> pa.DataType:
    import pyarrow as pa

    types: dict[Kind, pa.DataType] = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        # Token ids: no vocabulary needs more than 32 bits.
        "integers": pa.list_(pa.int32()),
        "texts": pa.list_(pa.string()),
    }
    return types[kind]


def _fits(found: pa.DataType, kind: Kind) -> bool:
    from pyarrow import types

    if types.is_null(found):
        return True
    if types.is_list(found) or types.is_large_list(found):
        inner: dict[Kind, Kind] = {"integers": "integer", "texts": "text"}
        return kind in inner and _fits(found.value_type, inner[kind])
    if kind == "text":
        return bool(types.is_string(found) or types.is_large_string(found))
    if kind == "flag":
        return bool(types.is_boolean(found))
    # Whole numbers with empty cells are floats to many a program; the cast refuses any others.
    number = types.is_integer(found) or types.is_floating(found)
    return kind in ("integer", "number") and bool(number)


def _checked(table: pa.Table, schema: Schema, path: Path | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    missing = ", ".join(
        f"{name!r} ({KIND_WORDS[column.kind]})"
        for name, column in schema.columns.items()
        if column.required and name not in table.column_names
    )
    if missing:
        raise DataFrameError(
            f"{schema.name}: no column {missing}",
            subject=path,
            next_step=f"use a {schema.file} that this edgequant wrote",
        )
    arrays = []
    for name, column in schema.columns.items():
        wanted = _arrow_type(column.kind)
        if name not in table.column_names:
            arrays.append(pa.nulls(table.num_rows, wanted))
            continue
        found = table.column(name)
        if not _fits(found.type, column.kind):
            raise _wrong_kind(schema, name, column, f"it holds {found.type}", path)
        if found.null_count and not column.nullable:
            raise DataFrameError(f"{schema.name}: column {name!r} has empty cells", subject=path)
        try:
            array = found.cast(wanted)
        except pa.ArrowException as error:
            raise _wrong_kind(schema, name, column, str(error), path) from error
        if column.kind == "number" and pc.any(pc.is_nan(array)).as_py():
            raise _wrong_kind(schema, name, column, "a cell is not a number (NaN)", path)
        arrays.append(array)
    return pa.table(arrays, names=list(schema.columns))


def _wrong_kind(
    schema: Schema, name: str, column: Column, found: str, path: Path | None = None
) -> DataFrameError:
    return DataFrameError(
        f"{schema.name}: column {name!r} must hold {KIND_WORDS[column.kind]}: {found}",
        subject=path,
    )


def _framed(table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _arrow(frame: pd.DataFrame) -> pa.Table:
    import pyarrow as pa

    # Column by column: Table.from_pandas takes a millisecond for what is Arrow already.
    return pa.table({name: pa.array(frame[name], from_pandas=True) for name in frame.columns})
