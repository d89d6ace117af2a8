"""A GGUF written anew with some tensors or values changed: one tensor in memory at a time.

All that is not changed is copied byte for byte, metadata too: token pieces need not be UTF-8.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import GgufError
from edgequant.models.formats.gguf import (
    DEFAULT_ALIGNMENT,
    MAX_NAME_BYTES,
    GgufInfo,
    Tensor,
    Value,
    read_gguf,
)
from edgequant.models.formats.types import bytes_of, type_named, type_numbers

COPIED_AT_ONCE = 16 << 20

_U32, _F32, _BOOL, _STRING, _ARRAY, _U64, _I64 = 4, 6, 7, 8, 9, 10, 11
_INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", _U64: "<Q", _I64: "<q"}
_FLOATS = {_F32: "<f", 12: "<d"}


@dataclass(frozen=True)
class NewTensor:
    """What takes a tensor's place, or is added."""

    type: str
    """Name of a ggml type."""
    shape: tuple[int, ...]
    """In ggml's order: the row length first."""
    read: Callable[[], npt.NDArray[Any]]
    """Its data, called once, when it is written: an array of exactly its bytes."""

    @property
    def bytes(self) -> int:
        """Bytes of its data."""
        if self.shape[0] % type_named(self.type).block_elements:
            raise GgufError(f"rows of {self.shape[0]} are not whole blocks of {self.type}")
        return bytes_of(math.prod(self.shape), self.type)


def rewrite(
    source: Path,
    out: Path,
    *,
    replaced: Mapping[str, NewTensor] | None = None,
    dropped: Collection[str] = (),
    metadata: Mapping[str, Value | None] | None = None,
    on_tensor: Callable[[str], None] = lambda _name: None,
) -> GgufInfo:
    """Copy a GGUF, with changes.

    Args:
        source: a whole GGUF.
        out: the file to write, which is not there.
        replaced: tensors by name; those that the source has not are added behind the others.
        dropped: names of tensors that are left out.
        metadata: values by key; None takes the key away. A key that is there keeps its type, a new
            one is stored as u32 (or i64), f32, bool, string, or an array of these.
        on_tensor: called with each tensor's name after it is written.

    Returns:
        The header of what was written.

    Raises:
        GgufError: the source is damaged, has no tensor that is to be dropped, or a new tensor's
            data is not as long as its type and shape say.
    """
    info = read_gguf(source)
    plan = _plan(info, dict(replaced or {}), dropped)
    values = _metadata(info, dict(metadata or {}))
    alignment = _alignment(info)
    with source.open("rb") as stream, out.open("xb") as target:
        target.write(_header(values, plan, alignment))
        for name, entry in plan.items():
            if isinstance(entry, Tensor):
                _copy(stream, target, entry)
            else:
                _write(target, name, entry)
            target.write(bytes(-target.tell() % alignment))
            on_tensor(name)
    return read_gguf(out)


def read_tensor(path: Path, tensor: Tensor) -> npt.NDArray[np.uint8]:
    """A tensor's bytes, as rows.

    Args:
        path: the file.
        tensor: of that file's header.

    Returns:
        Shape (rows, bytes of a row), a view of the file: what is read is not kept.
    """
    rows = tensor.elements // tensor.shape[0]
    return np.memmap(
        path, dtype=np.uint8, mode="r", offset=tensor.offset, shape=(rows, tensor.bytes // rows)
    )


def _plan(
    info: GgufInfo, replaced: dict[str, NewTensor], dropped: Collection[str]
) -> dict[str, Tensor | NewTensor]:
    names = {tensor.name for tensor in info.tensors}
    if absent := set(dropped) - names:
        raise GgufError(f"has no tensor {sorted(absent)[0]!r}", subject=info.path)
    if long := [name for name in replaced if len(name.encode()) >= MAX_NAME_BYTES]:
        raise GgufError(f"{long[0]!r} is too long for the name of a tensor", subject=info.path)
    plan: dict[str, Tensor | NewTensor] = {}
    for tensor in info.tensors:
        if tensor.name not in dropped:
            plan[tensor.name] = replaced.get(tensor.name, tensor)
    return plan | {name: new for name, new in replaced.items() if name not in names}


def _alignment(info: GgufInfo) -> int:
    found = info.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    return int(found) if isinstance(found, int) else DEFAULT_ALIGNMENT


def _metadata(info: GgufInfo, changes: dict[str, Value | None]) -> list[bytes]:
    """Every key with its value, as a file has them."""
    found = dict(_raw_values(info))
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
            continue
        kinds = _kinds(found[key], key) if key in found else None
        found[key] = _string(key) + _packed(value, kinds, key)
    return list(found.values())


def _raw_values(info: GgufInfo) -> Iterator[tuple[str, bytes]]:
    # The package trusts the lengths that a file claims: read_gguf has compared them all.
    from gguf import GGUFReader

    reader = GGUFReader(info.path)
    fields = [f for f in reader.fields.values() if not str(f.name).startswith("GGUF.")]
    for field in fields:
        start = field.offset
        end = start + sum(int(part.nbytes) for part in field.parts)
        yield str(field.name), reader.data[start:end].tobytes()


def _kinds(raw: bytes, key: str) -> tuple[int, int | None]:
    start = 8 + len(key.encode())
    kind, inner = struct.unpack_from("<II", raw + bytes(4), start)
    return kind, inner if kind == _ARRAY else None


def _packed(value: Value, kinds: tuple[int, int | None] | None, key: str) -> bytes:
    if isinstance(value, tuple):
        inner = kinds[1] if kinds is not None else None
        kind = inner if inner is not None else _natural(value[0] if value else "")
        body = b"".join(_scalar(item, kind, key) for item in value)
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + body
    kind = kinds[0] if kinds is not None else _natural(value)
    return struct.pack("<I", kind) + _scalar(value, kind, key)


def _natural(value: object) -> int:
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, int):
        return _U32 if 0 <= value < 1 << 32 else _I64
    return _F32 if isinstance(value, float) else _STRING


def _scalar(value: object, kind: int, key: str) -> bytes:
    try:
        if kind == _STRING and isinstance(value, str):
            return _string(value)
        if kind == _BOOL and isinstance(value, bool):
            return struct.pack("<?", value)
        if kind in _INTEGERS and isinstance(value, int):
            return struct.pack(_INTEGERS[kind], value)
        if kind in _FLOATS and isinstance(value, int | float):
            return struct.pack(_FLOATS[kind], value)
    except struct.error:
        pass
    raise GgufError(f"{key!r} cannot hold {value!r}: its type is {kind}")


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _header(values: list[bytes], plan: Mapping[str, Tensor | NewTensor], alignment: int) -> bytes:
    head = [struct.pack("<4sIQQ", b"GGUF", 3, len(plan), len(values)), *values]
    offset = 0
    for name, entry in plan.items():
        head.append(_string(name) + struct.pack("<I", len(entry.shape)))
        head.append(struct.pack(f"<{len(entry.shape)}Q", *entry.shape))
        head.append(struct.pack("<IQ", type_numbers()[entry.type], offset))
        offset += entry.bytes + -entry.bytes % alignment
    data = b"".join(head)
    return data + bytes(-len(data) % alignment)


def _copy(stream: BinaryIO, target: BinaryIO, tensor: Tensor) -> None:
    stream.seek(tensor.offset)
    left = tensor.bytes
    while left:
        part = stream.read(min(left, COPIED_AT_ONCE))
        if not part:
            raise GgufError(f"ends inside the tensor {tensor.name!r}")
        target.write(part)
        left -= len(part)


def _write(target: BinaryIO, name: str, tensor: NewTensor) -> None:
    data = np.ascontiguousarray(tensor.read())
    if data.nbytes != tensor.bytes:
        raise GgufError(
            f"{name!r} has {data.nbytes} bytes of data, and as {tensor.type} of "
            f"{tensor.shape} it has {tensor.bytes}"
        )
    target.write(data.data)
