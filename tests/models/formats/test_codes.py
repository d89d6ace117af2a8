"""Codes in ggml's blocks: what is written is read, and scales stay."""

from __future__ import annotations

import numpy as np
import pytest

from edgequant.models.formats.codes import CODED, code_bits, read_codes, write_codes
from edgequant.models.formats.types import tensor_types, type_numbers


@pytest.mark.parametrize("kind", sorted(CODED))
def test_codes_written_are_read_and_nothing_else_changes(kind: str) -> None:
    rng = np.random.default_rng(0)
    layout = tensor_types()[type_numbers()[kind]]
    data = rng.integers(0, 256, (3, 2 * layout.block_bytes), dtype=np.uint8)
    shape = (3, 2 * layout.block_elements)
    before = read_codes(data, kind)
    assert before.shape == shape
    assert before.max() < 1 << code_bits(kind)
    assert (write_codes(data, kind, before) == data).all()
    codes = rng.integers(0, 1 << code_bits(kind), shape, dtype=np.uint8)
    changed = write_codes(data, kind, codes)
    assert (read_codes(changed, kind) == codes).all()
    assert (write_codes(changed, kind, before) == data).all()


@pytest.mark.parametrize("kind", sorted(CODED - {"Q4_1", "Q5_1"}))
def test_codes_stand_where_the_gguf_package_reads_them(kind: str) -> None:
    """Equal scales everywhere: then equal codes are equal numbers, and larger ones larger."""
    from gguf import GGMLQuantizationType, dequantize, quantize

    layout = tensor_types()[type_numbers()[kind]]
    rng = np.random.default_rng(1)
    if kind in {"Q4_0", "Q5_0"}:
        values = rng.standard_normal((2, layout.block_elements)).astype(np.float32)
        data = quantize(values, GGMLQuantizationType[kind])
    else:
        data = np.full((2, layout.block_bytes), 0x11, dtype=np.uint8)
    number = GGMLQuantizationType[kind]
    columns = layout.block_elements
    for column in (0, 1, columns // 2, columns - 1):
        codes = read_codes(data, kind)
        codes[:, column] = (codes[:, column] + 1) % (1 << code_bits(kind))
        changed = dequantize(write_codes(data, kind, codes), number)
        moved = np.flatnonzero((changed != dequantize(data, number)).any(axis=0))
        assert moved.tolist() == [column]
