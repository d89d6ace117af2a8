"""The headers of safetensors files; nothing that they claim is trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from edgequant.core.errors import ModelFolderError
from edgequant.core.fields import Count
from edgequant.core.json_file import parse_json
from edgequant.core.text import printable

MAX_HEADER_BYTES = 100 << 20
MAX_DIMENSIONS = 8
COMPARED_BYTES = 1 << 20
BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
}
"""Of a number of each type; there are newer ones, of which only the place is checked."""


class StoredTensor(BaseModel):
    """One entry of a safetensors header."""

    model_config = ConfigDict(strict=True)

    dtype: str
    shape: Annotated[list[Count], Field(max_length=MAX_DIMENSIONS)]
    data_offsets: Annotated[list[Count], Field(min_length=2, max_length=2)]

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


_HEADER = TypeAdapter(dict[str, StoredTensor])


def read_header(file: Path) -> dict[str, StoredTensor]:
    """Name to dtype, shape and place of every tensor.

    Raises:
        ModelFolderError: the file is not as long as its header says, or has none; or its tensors do
            not lie one after another, each as long as its shape and type make it.
    """
    size = file.stat().st_size
    damaged = ModelFolderError(
        "is truncated or damaged", subject=file, next_step="download this file again"
    )
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise damaged
        try:
            header = parse_json(stream.read(length))
            header.pop("__metadata__", None)
            tensors = _HEADER.validate_python(header)
        except (ValueError, AttributeError, TypeError) as error:
            raise damaged from error
    end = _check_places(file, tensors)
    if size != 8 + length + end:
        raise ModelFolderError(
            f"is truncated or damaged: {size} bytes where its header tells of {8 + length + end}",
            subject=file,
            next_step="download this file again",
        )
    return tensors


def _check_places(file: Path, tensors: Mapping[str, StoredTensor]) -> int:
    """See that no byte belongs to two tensors or none; returns where the last one ends."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        start, after = tensor.data_offsets
        bits = BITS.get(tensor.dtype)
        if start != end or after < start:
            cause = f"{printable(name)} lies at {start} to {after}, expected at {end}"
        elif bits is not None and (after - start) * 8 != tensor.numbers * bits:
            cause = (
                f"{printable(name)} has {after - start} bytes, and {tensor.numbers} numbers of "
                f"{tensor.dtype}"
            )
        else:
            end = after
            continue
        raise ModelFolderError(
            f"is damaged: {cause}", subject=file, next_step="download this file again"
        )
    return end


def data_offset(file: Path) -> int:
    """Where the tensors begin; the header was read before."""
    with file.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8), "little")


def same_data(one: tuple[Path, StoredTensor], other: tuple[Path, StoredTensor]) -> bool:
    """Whether two tensors have the same type, shape and bytes; both headers were read before."""
    (a_file, a), (b_file, b) = one, other
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    left = a.data_offsets[1] - a.data_offsets[0]
    with a_file.open("rb") as a_stream, b_file.open("rb") as b_stream:
        a_stream.seek(data_offset(a_file) + a.data_offsets[0])
        b_stream.seek(data_offset(b_file) + b.data_offsets[0])
        while left > 0:
            size = min(left, COMPARED_BYTES)
            if a_stream.read(size) != b_stream.read(size):
                return False
            left -= size
    return True
