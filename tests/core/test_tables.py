"""Tables: what goes in comes out, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgequant.core.errors import DataFrameError
from edgequant.core.schemas import ALL, ANSWERS, BEST, LATENCY, QUESTIONS, Schema
from edgequant.core.tables import (
    check_table,
    csv_text,
    make_table,
    read_csv,
    read_table,
    records,
    write_csv,
    write_table,
)

ROOT = Path(__file__).parents[2]
QUESTION = {"question_id": "0001", "question_sha256": "ab", "expected_answer": "7"}
LOAD = {"quantization": "Q", "phase": "load", "seconds": 1.0}


def questions(**changes: object) -> pd.DataFrame:
    return pd.DataFrame([{**QUESTION, **changes}])


@settings(deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "latency_source": st.text(st.characters(codec="utf-8", exclude_characters="\0")),
                "time_limit_seconds": st.floats(allow_nan=False, allow_infinity=False),
                "prompt": st.none() | st.sampled_from(["", "a", 'a"b', "a,b", "a\nb", " "]),
                "budget_tokens": st.none() | st.integers(-(2**63), 2**63 - 1),
            }
        ),
        min_size=1,
    )
)
def test_rows_come_back_from_both_kinds_of_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    table = make_table(rows, BEST)
    assert [{k: row[k] for k in rows[0]} for row in records(table)] == rows
    write_table(table, folder / "t.parquet", BEST)
    assert records(read_table(folder / "t.parquet", BEST)) == records(table)
    if not any("\r" in str(row["latency_source"]) for row in rows):
        write_csv(table, folder / "t.csv", BEST)
        assert records(read_csv(folder / "t.csv", BEST)) == records(table)
    assert not list(folder.glob("*.partial"))


def test_an_empty_cell_is_no_empty_text_and_no_nought() -> None:
    table = make_table([{"latency_source": "study", "time_limit_seconds": 0.1, "prompt": ""}], BEST)
    assert csv_text(table).splitlines()[1] == 'study,0.1,,"",' + "," * (len(BEST.columns) - 5)
    (row,) = records(table)
    assert (row["prompt"], row["n"], row["accuracy"]) == ("", None, None)


def test_lists_stay_in_arrow(tmp_path: Path) -> None:
    row = dict.fromkeys(ANSWERS.columns, "x") | {
        "budget_tokens": None, "token_ids": [1, 2], "token_texts": ["a", ""], "prompt_tokens": 3,
        "max_tokens": 4, "prompt_seconds": 0.1, "decode_seconds": 0.2, "slots": 1,
        "prompt_cache": False, "closing_start": 1, "closing_tokens": 1, "token_ids_counted": False,
    }  # fmt: skip
    write_table(make_table([row], ANSWERS), tmp_path / "a.parquet", ANSWERS)
    table = read_table(tmp_path / "a.parquet", ANSWERS)
    assert table["token_ids"].dtype == pd.ArrowDtype(pa.list_(pa.int32()))
    assert records(table) == [row]


@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        (questions().drop(columns="expected_answer"), "no column 'expected_answer' (text)"),
        (questions(expected_answer=7), "'expected_answer' must hold text"),
        (questions(expected_answer=None), "'expected_answer' has empty cells"),
        (questions(question_id=5), "'question_id' must hold text"),
        (questions(question_id={"a": 1}), "'question_id' must hold text"),
        (pd.concat([questions(), questions(question_id=1)]), "'question_id' must hold text"),
    ],
)
def test_what_does_not_fit_is_named(frame: pd.DataFrame, cause: str) -> None:
    with pytest.raises(DataFrameError) as caught:
        check_table(frame, QUESTIONS)
    assert f"the questions: column {cause}" in str(caught.value) or cause in str(caught.value)


@pytest.mark.parametrize("repeat", ["7", 7.5, 2**64])
def test_what_is_no_whole_number_is_named(repeat: object) -> None:
    with pytest.raises(DataFrameError, match="'repeat' must hold whole numbers"):
        check_table(pd.DataFrame([{**LOAD, "repeat": repeat}]), LATENCY)


def test_whole_floats_are_whole_numbers() -> None:
    (row,) = records(check_table(pd.DataFrame([{**LOAD, "repeat": 7.0}]), LATENCY))
    assert (row["repeat"], type(row["repeat"])) == (7, int)


def test_not_a_number_is_no_number() -> None:
    row = {"quantization": "Q", "phase": "decode", "seconds": float("nan")}
    with pytest.raises(DataFrameError, match=r"'seconds' must hold numbers: .*NaN"):
        make_table([row], LATENCY)


def test_no_file_no_parquet_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no Parquet")
    for path in (tmp_path / "none", tmp_path / "text", tmp_path):
        with pytest.raises(DataFrameError) as caught:
            read_table(path, QUESTIONS)
        assert caught.value.subject == str(path)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.file)
def test_the_page_says_what_the_schema_says(schema: Schema) -> None:
    assert as_markdown(schema) in (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")


def as_markdown(schema: Schema) -> str:
    """The section that docs/tables.md has of a table."""
    lines = [f"## {schema.file}", "", f"One row for {schema.rows}.", ""]
    lines += ["| column | kind | empty | meaning |", "| --- | --- | --- | --- |"]
    for name, column in schema.columns.items():
        empty = "yes" if column.nullable else "no"
        lines.append(f"| `{name}` | {column.kind} | {empty} | {column.meaning} |")
    return "\n".join(lines) + "\n"
