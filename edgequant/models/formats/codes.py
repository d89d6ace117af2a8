"""Where the codes of a ggml type's numbers lie in its blocks, to read and to change them alone.

A block has scales (and offsets), and a code for each number; what a code stands for hangs on the
scales of its place. Types whose codes are chosen for several numbers at once (IQ1, IQ2, IQ3) are
not here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from edgequant.models.formats.types import tensor_types, type_numbers

Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.intp]


def _nibbles(start: int, group: int, elements: int) -> Positions:
    """Low nibbles of ``group`` bytes are the first numbers, the high ones the next."""
    number = np.arange(elements)
    chunk, place = np.divmod(number, 2 * group)
    byte = start + chunk * group + place % group
    return _bits(byte, 4 * (place // group), 4)


def _bits(byte: Positions, shift: Positions, count: int) -> Positions:
    """Positions of bits in a block, shape (elements, count), lowest first."""
    return (8 * byte + shift)[:, None] + np.arange(count)


def _pairs(start: int) -> Positions:
    """Two bits each, as Q2_K and Q3_K have them: 128 numbers in 32 bytes."""
    half, place = np.divmod(np.arange(256), 128)
    return _bits(start + 32 * half + place % 32, 2 * (place // 32), 2)


def _q3_k() -> Positions:
    number = np.arange(256)
    high = _bits(number % 32, number // 32, 1)
    return np.hstack([_pairs(32), high])


def _q5_k() -> Positions:
    number = np.arange(256)
    high = _bits(16 + number % 32, number // 32, 1)
    return np.hstack([_nibbles(48, 32, 256), high])


def _q6_k() -> Positions:
    half, place = np.divmod(np.arange(256), 128)
    low = _bits(64 * half + place % 64, 4 * (place // 64), 4)
    high = _bits(128 + 32 * half + place % 32, 2 * (place // 32), 2)
    return np.hstack([low, high])


def _q5(start: int) -> Positions:
    number = np.arange(32)
    high = _bits(start + number // 8, number % 8, 1)
    return np.hstack([_nibbles(start + 4, 16, 32), high])


_POSITIONS: Mapping[str, Callable[[], Positions]] = {
    "Q2_K": lambda: _pairs(16),
    "Q3_K": _q3_k,
    "Q4_K": lambda: _nibbles(16, 32, 256),
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "Q4_0": lambda: _nibbles(2, 16, 32),
    "Q4_1": lambda: _nibbles(4, 16, 32),
    "Q5_0": lambda: _q5(2),
    "Q5_1": lambda: _q5(4),
    "IQ4_NL": lambda: _nibbles(2, 16, 32),
    "IQ4_XS": lambda: _nibbles(8, 16, 256),
}
CODED = frozenset(_POSITIONS)
"""Types whose codes can be changed one by one."""


@functools.cache
def _positions(type: str) -> Positions:
    return _POSITIONS[type]()


def code_bits(type: str) -> int:
    """Bits of a code."""
    return int(_positions(type).shape[1])


def read_codes(data: Bytes, type: str) -> Codes:
    """The codes of rows.

    Args:
        data: shape (rows, bytes of a row).
        type: one of :data:`CODED`.

    Returns:
        Shape (rows, columns).
    """
    bits = _block_bits(data, type)
    places = _positions(type)
    codes = np.zeros((len(bits), len(places)), dtype=np.uint8)
    for bit in range(places.shape[1]):
        codes |= bits[:, places[:, bit]] << np.uint8(bit)
    return codes.reshape(len(data), -1)


def write_codes(data: Bytes, type: str, codes: Codes) -> Bytes:
    """The same rows, with the same scales, and other codes.

    Args:
        data: shape (rows, bytes of a row).
        type: one of :data:`CODED`.
        codes: shape (rows, columns), or what broadcasts to it.
    """
    bits = _block_bits(data, type)
    places = _positions(type)
    columns = len(bits) // len(data) * len(places)
    blocks = np.broadcast_to(codes, (len(data), columns)).reshape(len(bits), -1)
    for bit in range(places.shape[1]):
        bits[:, places[:, bit]] = blocks >> np.uint8(bit) & np.uint8(1)
    return np.packbits(bits, axis=1, bitorder="little").reshape(data.shape)


def _block_bits(data: Bytes, type: str) -> Bytes:
    kind = tensor_types()[type_numbers()[type]]
    return np.unpackbits(data.reshape(-1, kind.block_bytes), axis=1, bitorder="little")
