"""JSON of strangers: a value, or a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.core.bounds import MAX_DEPTH
from edgequant.core.json_file import parse_json, read_json
from edgequant.core.text import printable


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deep|Expecting value"),
        ("[" * 200 + "]" * 200, f"more than {MAX_DEPTH} deep"),
        ("9" * 5_000, "thousands of digits"),
        (b"\xff", "not UTF-8"),
        ("{", "line 1, column 2"),
    ],
)
def test_what_is_wrong_is_said(text: str | bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(text)


def test_as_deep_as_people_nest_is_read() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(text) is not None
    assert parse_json(b"\xef\xbb\xbf{}") == {}


@given(st.text() | st.binary())
def test_nothing_but_a_value_error(text: str | bytes) -> None:
    try:
        parse_json(text)
    except ValueError:
        return


def test_a_file_is_read_no_further_than_its_bound(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than 10 bytes"):
        read_json(Path("/dev/zero"), max_bytes=10)


@given(st.text())
def test_what_is_shown_steers_no_terminal(text: str) -> None:
    shown = printable(text)
    assert all(c.isprintable() or c in "\t\n" or ord(c) > 0x9F for c in shown)
    shown.encode()
    assert printable(shown) == shown


def test_umlauts_and_brackets_stay() -> None:
    assert printable("Größe [/x]\n") == "Größe [/x]\n"
    assert printable("\x1b[2J\u202e") == "\\x1b[2J\\u202e"
