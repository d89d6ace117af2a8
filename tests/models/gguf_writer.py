"""A minimal writer of GGUF files, for tests only."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def write_split(whole: Path, folder: Path, count: int) -> list[Path]:
    """Split a GGUF as llama-gguf-split does: metadata in the first part, tensors over all."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter

    folder.mkdir(parents=True)
    reader = GGUFReader(whole)
    tensors = list(reader.tensors)
    paths = []
    for number in range(count):
        path = folder / f"{whole.stem}-{number + 1:05d}-of-{count:05d}.gguf"
        writer = GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
        if number == 0:
            for field in reader.fields.values():
                if field.name.startswith("GGUF.") or field.name == "general.architecture":
                    continue
                inner = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(field.name, field.contents(), field.types[0], inner)
        writer.add_key_value("split.no", number, GGUFValueType.UINT16)
        writer.add_key_value("split.count", count, GGUFValueType.UINT16)
        writer.add_key_value("split.tensors.count", len(tensors), GGUFValueType.INT32)
        for tensor in _share(tensors, number, count):
            writer.add_tensor(
                tensor.name,
                tensor.data,
                raw_shape=tuple(int(size) for size in tensor.data.shape),
                raw_dtype=tensor.tensor_type,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths


def _share(items: list[Any], number: int, count: int) -> list[Any]:
    size = -(-len(items) // count)
    return items[number * size : (number + 1) * size]
