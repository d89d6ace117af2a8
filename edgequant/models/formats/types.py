"""ggml's types and llama.cpp's file types, as the gguf package knows them.

The package is imported when the first type is looked up: it takes a quarter of a second.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple


class TensorType(NamedTuple):
    """A ggml type: its name, and that ``block_elements`` values take ``block_bytes`` bytes."""

    name: str
    block_elements: int
    block_bytes: int


FLOAT_TYPES = frozenset({"F32", "F16", "BF16"})
"""Those of numbers that are not quantized; files are called after them, too."""

# Where the pinned llama.cpp is ahead of the package: a test compares all with the tree's own
# gguf-py.
_PINNED_TENSOR_TYPES = {9: TensorType("Q8_1", 32, 36), 42: TensorType("Q2_0", 64, 18)}
_PINNED_FILE_TYPES = {41: "Q2_0"}


@functools.cache
def tensor_types() -> Mapping[int, TensorType]:
    """Every ggml type by the number that stands for it in a file."""
    from gguf.constants import GGML_QUANT_SIZES

    known = {int(kind): TensorType(kind.name, *size) for kind, size in GGML_QUANT_SIZES.items()}
    return known | _PINNED_TENSOR_TYPES


@functools.cache
def type_numbers() -> Mapping[str, int]:
    """Name of a ggml type to the number that stands for it in a file."""
    return {kind.name: number for number, kind in tensor_types().items()}


def bytes_of(elements: int, type: str) -> int:
    """Bytes of so many values, whole blocks of them, in a ggml type."""
    kind = type_named(type)
    return elements // kind.block_elements * kind.block_bytes


def type_named(name: str) -> TensorType:
    """A ggml type by its name."""
    return tensor_types()[type_numbers()[name]]


@functools.cache
def file_type_numbers() -> Mapping[str, int]:
    """Name of a quantization to its ``general.file_type``."""
    return {name: number for number, name in file_types().items()}


@functools.cache
def file_types() -> Mapping[int, str]:
    """``general.file_type`` to the name that llama-quantize gives it."""
    from gguf.constants import LlamaFileType

    known = {
        int(kind): kind.name.removeprefix("ALL_").removeprefix("MOSTLY_")
        for kind in LlamaFileType
        if kind != LlamaFileType.GUESSED
    }
    return known | _PINNED_FILE_TYPES
