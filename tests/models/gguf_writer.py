"""A minimal writer of GGUF files, for tests only."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgequant.models.formats.types import tensor_types

NUMBERS = {kind.name: number for number, kind in tensor_types().items()}


@dataclass(frozen=True)
class TensorSpec:
    name: str
    shape: tuple[int, ...]
    type: str = "F32"

    @property
    def bytes(self) -> int:
        kind = tensor_types()[NUMBERS[self.type]]
        return math.prod(self.shape) // kind.block_elements * kind.block_bytes


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(item: object) -> bytes:
    """Type number and value: bool, int (u32 or i64), float, str or a list of one kind."""
    if isinstance(item, bool):
        return struct.pack("<I?", 7, item)
    if isinstance(item, int):
        return struct.pack("<II", 4, item) if 0 <= item < 2**32 else struct.pack("<Iq", 11, item)
    if isinstance(item, float):
        return struct.pack("<Id", 12, item)
    if isinstance(item, str):
        return struct.pack("<I", 8) + string(item)
    assert isinstance(item, list)
    kind = 8 if item and isinstance(item[0], str) else 11
    body = b"".join(string(x) if kind == 8 else struct.pack("<q", x) for x in item)
    return struct.pack("<IIQ", 9, kind, len(item)) + body


def gguf(
    metadata: Mapping[str, object],
    tensors: Sequence[TensorSpec] = (),
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A whole file; tensor data is zeros, the last tensor is not padded."""
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(metadata))
    head += b"".join(string(key) + value(item) for key, item in metadata.items())
    data = b""
    for tensor in tensors:
        data += bytes(-len(data) % alignment)
        head += string(tensor.name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        head += struct.pack("<IQ", NUMBERS[tensor.type], len(data))
        data += bytes(tensor.bytes)
    if tensors:
        head += bytes(-len(head) % alignment)
    return head + data
