"""The model that programs are tried with: the same weights everywhere, no infinities."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest
from gguf import GGUFReader

from edgequant.build.proof.tiny_model import (
    BLOCK_SCALES,
    LAYERS,
    tensors,
    vocabulary,
    write_tiny_model,
)
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.types import tensor_types

WEIGHTS_SHA256 = "1d52f7c14b80321e8955f8cb0b35a2ed04e2405db8c0a3fdc665b8cd66a59ce5"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


def test_its_weights_are_the_same_everywhere(model: Path) -> None:
    found = GGUFReader(model).tensors
    written = [(one.name, tuple(map(int, one.shape)), one.tensor_type.name) for one in found]
    assert written == tensors()
    digest = hashlib.sha256(b"".join(one.data.tobytes() for one in found)).hexdigest()
    assert digest == WEIGHTS_SHA256


def test_it_is_the_same_when_it_is_written_again(model: Path, tmp_path: Path) -> None:
    assert write_tiny_model(tmp_path / "again.gguf").read_bytes() == model.read_bytes()


def test_it_is_a_whole_gguf_file(model: Path) -> None:
    found = read_gguf(model)
    assert found.architecture == "llama"
    assert model.stat().st_size < 1_000_000


def test_it_has_every_type_that_a_board_is_given() -> None:
    kinds = {kind for _, _, kind in tensors()}
    assert {"Q4_0", "Q4_K", "Q8_0", "Q2_K", "Q3_K", "Q5_K", "Q6_K", "F16"} <= kinds
    assert set(BLOCK_SCALES) <= kinds
    assert all(set(layer) == set(LAYERS[0]) for layer in LAYERS)


def test_rows_can_be_repacked() -> None:
    for name, shape, _ in tensors():
        if len(shape) == 2:
            assert shape[0] % 256 == 0, name
            assert shape[1] % 8 == 0, name


@pytest.mark.parametrize("name", sorted(BLOCK_SCALES))
def test_scales_lie_in_their_block_and_are_exact(name: str) -> None:
    (known,) = [kind for kind in tensor_types().values() if kind.name == name]
    for place, value in BLOCK_SCALES[name]:
        assert place + 2 <= known.block_bytes
        # Neither rounded away nor infinite in 16 bits.
        assert struct.unpack("<e", struct.pack("<e", value)) == (value,)


def test_every_byte_has_a_token() -> None:
    pieces = [piece for piece, _ in vocabulary()]
    assert len(set(pieces)) == len(pieces)
    assert all(f"<0x{byte:02X}>".encode() in pieces for byte in range(256))
