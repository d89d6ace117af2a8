"""Weights that are no numbers are found wherever a piece of the file ends."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgequant.core import hashing
from edgequant.core.hashing import sha256_file
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.tensors import reading_through
from tests.models.gguf_writer import TensorSpec, gguf

TENSORS = [
    TensorSpec("a", (40,), "F32"),
    TensorSpec("b", (96, 3), "F16"),
    TensorSpec("c", (256,), "Q2_K"),
    TensorSpec("d", (96, 2), "BF16"),
]
NOT_FINITE = {
    "a": [np.float32(np.nan), np.float32(-np.inf)],
    "b": [np.float16(np.inf), np.float16(np.nan)],
    "d": [np.uint16(0x7F80), np.uint16(0xFFC0)],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({"general.architecture": "llama"}, TENSORS))
    return path


@pytest.mark.parametrize("size", [64, 100, 1 << 20])
@pytest.mark.parametrize("name", sorted(NOT_FINITE))
@pytest.mark.parametrize("place", [0, -1])
def test_the_first_tensor_that_is_not_finite_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, size: int, name: str, place: int
) -> None:
    monkeypatch.setattr(hashing, "READ_BYTES", size)
    with reading_through(file) as first_not_finite:
        assert first_not_finite() is None
    tensor = next(t for t in read_gguf(file).tensors if t.name == name)
    for value in NOT_FINITE[name]:
        content = bytearray(file.read_bytes())
        at = tensor.offset + (0 if place == 0 else tensor.bytes - value.nbytes)
        content[at : at + value.nbytes] = value.tobytes()
        file.write_bytes(content)
        with reading_through(file) as first_not_finite:
            assert first_not_finite() == name


def test_whatever_a_quantized_block_looks_like_is_no_matter(file: Path) -> None:
    tensor = next(t for t in read_gguf(file).tensors if t.name == "c")
    content = bytearray(file.read_bytes())
    content[tensor.offset : tensor.offset + tensor.bytes] = b"\xff" * tensor.bytes
    file.write_bytes(content)
    with reading_through(file) as first_not_finite:
        assert first_not_finite() is None


def test_all_of_the_file_is_shown_and_hashed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "READ_BYTES", 100)
    shown = bytearray()

    def look(offset: int, content: memoryview) -> None:
        assert offset == len(shown)
        shown.extend(content)

    assert sha256_file(file, look=look) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert bytes(shown) == file.read_bytes()


def test_it_is_broken_off_where_nobody_asks(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt), reading_through(file):
        raise KeyboardInterrupt
