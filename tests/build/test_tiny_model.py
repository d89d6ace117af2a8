"""The model that programs are tried with: the same bytes everywhere, every type, no infinities."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from edgequant.build.proof.tiny_model import (
    LAYERS,
    WEIGHT_TYPES,
    model_bytes,
    tensors,
    vocabulary,
    write_tiny_model,
)
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.types import tensor_types

SHA256 = "c0797432585ea20cf2d9d08bf03beb06adaf74afe90012e8f43476f405033065"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


def test_it_is_the_same_everywhere(model: Path) -> None:
    assert model.read_bytes() == model_bytes()
    assert hashlib.sha256(model_bytes()).hexdigest() == SHA256


def test_it_is_a_whole_gguf_file(model: Path) -> None:
    found = read_gguf(model)
    assert found.architecture == "llama"
    assert model.stat().st_size < 1_000_000


def test_it_has_every_type_that_a_board_is_given() -> None:
    kinds = {kind for _, _, kind in tensors()}
    assert {"Q4_0", "Q4_K", "Q8_0", "Q2_K", "Q3_K", "Q5_K", "Q6_K", "F16"} <= kinds
    assert set(WEIGHT_TYPES) <= kinds
    assert all(set(layer) == set(LAYERS[0]) for layer in LAYERS)


def test_rows_can_be_repacked() -> None:
    for name, shape, _ in tensors():
        if len(shape) == 2:
            assert shape[0] % 256 == 0, name
            assert shape[1] % 8 == 0, name


@pytest.mark.parametrize("name", sorted(WEIGHT_TYPES))
def test_blocks_are_as_long_as_the_format_says(name: str) -> None:
    stored = WEIGHT_TYPES[name]
    known = tensor_types()[stored.number]
    assert (known.name, known.block_elements, known.block_bytes) == (
        name,
        stored.block_elements,
        stored.block_bytes,
    )
    for place, value in stored.scales:
        assert place + 2 <= stored.block_bytes
        # Neither rounded away nor infinite in 16 bits.
        assert struct.unpack("<e", struct.pack("<e", value)) == (value,)


def test_every_byte_has_a_token() -> None:
    pieces = [piece for piece, _ in vocabulary()]
    assert len(set(pieces)) == len(pieces)
    assert all(f"<0x{byte:02X}>".encode() in pieces for byte in range(256))
