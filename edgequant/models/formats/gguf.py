"""Read the header of a GGUF file: what model it holds, how it is quantized, and if it is whole.

Only the header is read, so a file of many gigabytes is looked at in well under a second. No
length that the file claims is trusted before it is compared with the bytes that are really there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgequant.core.errors import GgufError
from edgequant.models.formats.types import file_types, tensor_types

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 64
"""A tensor's name with its terminating zero (GGML_MAX_NAME)."""
MAX_KEY_BYTES = 65_535
MAX_STRING_BYTES = 64 << 20
"""Longer than any chat template; a longer one means damage, and is never allocated."""
MAX_ENTRIES = 1 << 17
"""Keys, or tensors: the largest models have some ten thousand. Each takes memory here."""
MAX_STRINGS = 1 << 24
"""Of an array: the largest vocabularies have less than a million. Each takes time here."""
MAX_KEPT_ARRAY = 64
"""Longer arrays (the vocabulary) are only counted, unless asked for by name."""

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]


_STRING, _ARRAY = 8, 9
_SCALARS: Mapping[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: ``offset`` is counted in bytes from the start of the file."""

    name: str
    shape: tuple[int, ...]
    """In ggml's order: the row length first."""
    type: str
    bytes: int
    offset: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def matrices(self) -> int:
        """How many matrices it holds: one for each of a mixture's experts, or one."""
        return self.shape[2] if len(self.shape) > 2 else 1


@dataclass(frozen=True)
class GgufInfo:
    """The header of a GGUF file, and sizes worked out from it."""

    path: Path
    version: int
    architecture: str
    metadata: Mapping[str, Value]
    """Every scalar and string, and arrays of at most 64 numbers or strings."""
    array_lengths: Mapping[str, int]
    """Key of every array to its length, also of those that ``metadata`` leaves out."""
    tensors: tuple[Tensor, ...]
    file_bytes: int
    data_offset: int
    """Where the tensor data begins."""

    @property
    def parameter_count(self) -> int:
        """Numbers in all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, without header and padding."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Mean bits of a number, as llama-quantize counts them; NaN where there is no tensor."""
        parameters = self.parameter_count
        return self.tensor_bytes * 8 / parameters if parameters else math.nan

    @property
    def file_type(self) -> str:
        """The name of the quantization, or "unknown"."""
        number = self.metadata.get("general.file_type")
        return file_types().get(number, "unknown") if isinstance(number, int) else "unknown"


def read_gguf(path: Path) -> GgufInfo:
    """Read a GGUF file's header and check that all the data it names is inside the file.

    Raises:
        GgufError: the file is missing, not GGUF, truncated or damaged.
    """
    info, _ = _read(path, keep=())
    return info


def read_tokens(path: Path) -> tuple[str, ...]:
    """The vocabulary of a GGUF file, by token id.

    Raises:
        GgufError: as :func:`read_gguf`.
    """
    key = "tokenizer.ggml.tokens"
    _, kept = _read(path, keep=(key,))
    return tuple(str(token) for token in kept.get(key, ()))


def bytes_per_token(info: GgufInfo) -> int:
    """Bytes of weights read to decode one token.

    Every tensor is read whole but two kinds: a token embedding with a separate output matrix
    beside it gives one row (not counted), and of a mixture's experts only the chosen ones are
    read. A tied embedding is the output matrix too, and counts once.
    """
    names = {tensor.name for tensor in info.tensors}
    untied = "output.weight" in names
    used, experts = (
        info.metadata.get(f"{info.architecture}.{key}")
        for key in ("expert_used_count", "expert_count")
    )
    share = (
        (used, experts)
        if isinstance(used, int) and isinstance(experts, int) and 0 < used <= experts
        else (1, 1)
    )
    total = 0
    for tensor in info.tensors:
        if tensor.name == "token_embd.weight" and untied:
            continue
        expert = "_exps." in tensor.name
        total += tensor.bytes * share[0] // share[1] if expert else tensor.bytes
    return total


class _Header:
    """Little-endian values read one after another, never past the end of the file."""

    def __init__(self, stream: BinaryIO, path: Path, size: int) -> None:
        self._stream = stream
        self.path = path
        self.size = size
        self.position = 0

    def damaged(self, cause: str) -> GgufError:
        return GgufError(f"damaged GGUF: {cause}", subject=self.path, next_step="make it again")

    def truncated(self) -> GgufError:
        return GgufError(
            f"truncated GGUF: it ends after {self.size} bytes, inside its header",
            subject=self.path,
            next_step="copy or make it again",
        )

    def take(self, count: int) -> bytes:
        if count > self.size - self.position:
            raise self.truncated()
        data = self._stream.read(count)
        if len(data) != count:
            raise self.truncated()
        self.position += count
        return data

    def skip(self, count: int) -> None:
        if count > self.size - self.position:
            raise self.truncated()
        self._stream.seek(count, 1)
        self.position += count

    def scalar(self, kind: int) -> int | float | bool:
        layout = _SCALARS[kind]
        value: int | float | bool = layout.unpack(self.take(layout.size))[0]
        return value

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def string(self, limit: int) -> str:
        length = self.u64()
        if length > self.size - self.position:
            raise self.truncated()
        if length > limit:
            raise self.damaged(f"a string of {length} bytes where at most {limit} are allowed")
        # Token pieces need not be valid UTF-8.
        return self.take(length).decode("utf-8", errors="replace")

    def array(self, keep: bool) -> tuple[int, tuple[Scalar, ...] | None]:
        """Length of an array, and its values where they are few or wanted."""
        kind, length = self.u32(), self.u64()
        keep = keep or length <= MAX_KEPT_ARRAY
        if kind == _STRING:
            # Each string has 8 bytes of length at least: a count that cannot fit is a lie.
            if length * 8 > self.size - self.position:
                raise self.truncated()
            if length > MAX_STRINGS:
                raise self.damaged(f"an array of {length} strings")
            if keep:
                return length, tuple(self.string(MAX_STRING_BYTES) for _ in range(length))
            for _ in range(length):
                self.skip(self.u64())
            return length, None
        if kind not in _SCALARS:
            raise self.damaged(f"an array of unknown value type {kind}")
        if length * _SCALARS[kind].size > self.size - self.position:
            raise self.truncated()
        if keep:
            return length, tuple(self.scalar(kind) for _ in range(length))
        self.skip(length * _SCALARS[kind].size)
        return length, None


def _read(path: Path, keep: Collection[str]) -> tuple[GgufInfo, dict[str, tuple[Scalar, ...]]]:
    try:
        with path.open("rb") as stream:
            header = _Header(stream, path, path.stat().st_size)
            return _read_header(header, keep)
    except FileNotFoundError:
        raise GgufError("no such file", subject=path) from None
    except OSError as error:
        raise GgufError(f"cannot be read: {error.strerror}", subject=path) from error


def _read_header(
    header: _Header, keep: Collection[str]
) -> tuple[GgufInfo, dict[str, tuple[Scalar, ...]]]:
    if header.size < len(MAGIC) or header.take(len(MAGIC)) != MAGIC:
        raise GgufError("not a GGUF file (it does not begin with 'GGUF')", subject=header.path)
    version = header.u32()
    if version not in VERSIONS:
        big_endian = version != 0 and version & 0xFFFF == 0
        raise GgufError(
            "big-endian GGUF, which is not supported"
            if big_endian
            else f"GGUF version {version}; versions 2 and 3 are supported",
            subject=header.path,
        )
    tensor_count, value_count = header.u64(), header.u64()
    metadata: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    kept: dict[str, tuple[Scalar, ...]] = {}
    # Nothing is sized by these counts: a hostile one runs into the end of the file, or a limit.
    _check_count(header, value_count, 13, "keys")
    _check_count(header, tensor_count, 24, "tensors")
    for _ in range(value_count):
        key = header.string(MAX_KEY_BYTES)
        if not key or key in metadata or key in lengths:
            raise header.damaged(f"an empty or repeated key {key!r}")
        kind = header.u32()
        if kind == _ARRAY:
            lengths[key], values = header.array(key in keep)
            if values is not None and key in keep:
                kept[key] = values
            if values is not None and len(values) <= MAX_KEPT_ARRAY:
                metadata[key] = values
        elif kind == _STRING:
            metadata[key] = header.string(MAX_STRING_BYTES)
        elif kind in _SCALARS:
            metadata[key] = header.scalar(kind)
        else:
            raise header.damaged(f"{key!r} has the unknown value type {kind}")
    tensors, data_offset = _read_tensors(header, tensor_count, metadata)
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        raise header.damaged("it has no general.architecture")
    info = GgufInfo(
        path=header.path,
        version=version,
        architecture=architecture,
        metadata=metadata,
        array_lengths=lengths,
        tensors=tensors,
        file_bytes=header.size,
        data_offset=data_offset,
    )
    return info, kept


def _check_count(header: _Header, count: int, least_bytes: int, what: str) -> None:
    if count * least_bytes > header.size - header.position:
        raise header.truncated()
    if count > MAX_ENTRIES:
        raise header.damaged(f"it tells of {count} {what}")


def _read_tensors(
    header: _Header, count: int, metadata: Mapping[str, Value]
) -> tuple[tuple[Tensor, ...], int]:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise header.damaged(f"general.alignment is {alignment!r}, not a power of two")
    types = tensor_types()
    found: dict[str, Tensor] = {}
    end = 0
    for _ in range(count):
        name = header.string(MAX_NAME_BYTES - 1)
        if name in found:
            raise header.damaged(f"tensor {name!r} appears twice")
        dimensions = header.u32()
        if dimensions > MAX_DIMENSIONS:
            raise header.damaged(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(header.u64() for _ in range(dimensions)) or (1,)
        number = header.u32()
        kind = types.get(number)
        if kind is None:
            raise header.damaged(f"tensor {name!r} has the unknown type {number}")
        if shape[0] % kind.block_elements:
            raise header.damaged(
                f"tensor {name!r}: rows of {shape[0]} are not whole blocks of {kind.name}"
            )
        offset = header.u64()
        # llama.cpp demands the same: one tensor right after another, each aligned.
        if offset != end:
            raise header.damaged(f"tensor {name!r} lies at {offset}, expected at {end}")
        size = math.prod(shape) // kind.block_elements * kind.block_bytes
        found[name] = Tensor(name, shape, kind.name, size, offset)
        end = _aligned(offset + size, alignment)
    start = _aligned(header.position, alignment)
    tensors = tuple(
        Tensor(t.name, t.shape, t.type, t.bytes, start + t.offset) for t in found.values()
    )
    for tensor in tensors:
        if tensor.offset + tensor.bytes > header.size:
            raise GgufError(
                f"truncated GGUF: {header.size} bytes, but tensor {tensor.name!r} ends at "
                f"{tensor.offset + tensor.bytes}",
                subject=header.path,
                next_step="copy or make it again",
            )
    return tensors, start


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
