"""Headers of safetensors files that lie are refused, whatever it is they lie about."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from edgequant.core.errors import ModelFolderError
from edgequant.models.checks.safetensors import MAX_HEADER_BYTES, read_header


def entry(start: int, end: int, dtype: str = "F16", shape: tuple[int, ...] = (2, 4)) -> Any:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def written(path: Path, header: object, data: int = 32, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    told = len(text) if length is None else length
    path.write_bytes(struct.pack("<Q", told) + text + bytes(data))
    return path


def test_a_whole_one_is_read(tmp_path: Path) -> None:
    # Not in the order they lie in, one without numbers, one of a type of tomorrow.
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry(16, 32),
        "a": entry(0, 16),
        "none": entry(16, 16, shape=(0, 4)),
        "new": entry(32, 37, dtype="F5", shape=(8,)),
    }
    found = read_header(written(tmp_path / "m.safetensors", header, data=37))
    assert set(found) == {"a", "b", "none", "new"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry(0, 16), "b": entry(8, 24), "c": entry(24, 32, shape=(4,))}, "b lies at 8"),
        ({"a": entry(0, 16), "b": entry(0, 16), "c": entry(16, 32)}, "b lies at 0 to 16"),
        ({"b": entry(16, 32)}, "b lies at 16 to 32, expected at 0"),
        ({"a": entry(0, 8, shape=(4,)), "b": entry(16, 32)}, "b lies at 16 to 32, expected at 8"),
        ({"a": entry(0, 32)}, "a has 32 bytes, and 8 numbers of F16"),
        ({"a": entry(0, 32, shape=(2**31, 2**31))}, "a has 32 bytes"),
        ({"a": entry(16, 0)}, "a lies at 16 to 0"),
        ({"a": entry(0, 2**62, shape=(2**61,))}, "32 bytes|truncated or damaged"),
        ({"a": entry(-16, 16)}, "truncated or damaged"),
        ({"a": entry(0, 32, shape=(-2, -8))}, "truncated or damaged"),
        ({"a": {"dtype": "F16"}}, "truncated or damaged"),
        ({"a": [0, 32]}, "truncated or damaged"),
        ([1, 2], "truncated or damaged"),
        (b"[" * 5000, "truncated or damaged"),
        (b"{}", "truncated or damaged: 42 bytes where its header tells of 10"),
        (b"\xff\xfe", "truncated or damaged"),
        ({"\x1b[31m": entry(0, 8)}, r"is damaged: (?!\x1b)"),
    ],
)
def test_what_lies_is_refused(tmp_path: Path, header: object, message: str) -> None:
    path = written(tmp_path / "m.safetensors", header)
    with pytest.raises(ModelFolderError, match=message) as raised:
        read_header(path)
    assert raised.value.subject == str(path)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("length", [0, 1, 3, 60, 2**32, 2**63, 2**64 - 1])
def test_a_header_is_as_long_as_it_says(tmp_path: Path, length: int) -> None:
    path = written(tmp_path / "m.safetensors", {"a": entry(0, 32, shape=(16,))}, length=length)
    with pytest.raises(ModelFolderError, match="truncated or damaged"):
        read_header(path)


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        stream.truncate(4 << 30)
    with pytest.raises(ModelFolderError, match="truncated or damaged"):
        read_header(path)


def test_truncation_at_any_byte_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "m.safetensors", {"a": entry(0, 32, shape=(16,))})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFolderError, match="damaged"):
            read_header(path)
