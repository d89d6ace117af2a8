"""ggml's own quantizers and their inverses, in this process: llama-quantize's very bytes."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import QuantizationError
from edgequant.models.formats.types import tensor_types, type_numbers
from edgequant.models.vocabulary import bindings

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Quantizer:
    """Rows of floats to blocks of a type and back, over one library.

    Args:
        library: the host build's ``libllama.so``.
        threads: rows are shared between so many, by default one for each core.

    Raises:
        ToolMissingError: the bindings or the library are not there.
    """

    def __init__(self, library: Path, threads: int | None = None) -> None:
        self._native = _declared(bindings(library)._lib)
        self._threads = threads or len(os.sched_getaffinity(0))

    def quantize(self, values: Floats, type: str, importance: Floats | None = None) -> Bytes:
        """Rows of numbers as a file has them.

        Args:
            values: shape (rows, columns).
            type: name of a ggml type, such as ``Q2_K`` or ``F16``.
            importance: of each column, shape (columns,), not negative; None: all the same.

        Returns:
            Shape (rows, bytes of a row).

        Raises:
            QuantizationError: the columns are not whole blocks of the type, the type needs an
                importance and there is none, or a value is no number.
        """
        number, row_bytes = self._layout(type, values.shape[1])
        weights = self._importance(number, type, values.shape[1], importance)
        source = np.ascontiguousarray(values, dtype=np.float32)
        if not np.isfinite(source).all():
            raise QuantizationError(f"NaN or infinite values cannot be stored as {type}")
        out = np.empty((len(source), row_bytes), dtype=np.uint8)
        self._native.ggml_quantize_init(number)

        def work(rows: slice) -> None:
            self._native.ggml_quantize_chunk(
                *(number, source[rows].ctypes.data, out[rows].ctypes.data),
                *(0, len(source[rows]), source.shape[1]),
                None if weights is None else weights.ctypes.data,
            )

        self._share(len(source), work)
        if not self._native.ggml_validate_row_data(number, out.ctypes.data, out.nbytes):
            raise QuantizationError(f"values that are too large cannot be stored as {type}")
        return out

    def dequantize(self, data: Bytes, type: str, columns: int) -> Floats:
        """The numbers that rows of a file stand for.

        Args:
            data: shape (rows, bytes of a row).
            type: name of a ggml type.
            columns: of a row.

        Returns:
            Shape (rows, columns).

        Raises:
            QuantizationError: the bytes are not rows of so many columns.
        """
        number, row_bytes = self._layout(type, columns)
        if data.ndim != 2 or data.shape[1] != row_bytes:
            raise QuantizationError(f"{data.shape} bytes are not rows of {columns} in {type}")
        source = np.ascontiguousarray(data)
        if type == "F32":
            return source.view(np.float32).copy()
        out = np.empty((len(source), columns), dtype=np.float32)
        to_float = self._native.ggml_get_type_traits(number).contents.to_float
        if not to_float:
            raise QuantizationError(f"ggml cannot read {type}")

        def work(rows: slice) -> None:
            to_float(source[rows].ctypes.data, out[rows].ctypes.data, out[rows].size)

        self._share(len(source), work)
        return out

    def rounded(self, values: Floats, type: str, importance: Floats | None = None) -> Floats:
        """What is left of numbers that were stored in a type; see :meth:`quantize`."""
        data = self.quantize(values, type, importance)
        return self.dequantize(data, type, values.shape[1])

    def _layout(self, type: str, columns: int) -> tuple[int, int]:
        number = type_numbers().get(type)
        if number is None:
            raise QuantizationError(f"ggml has no type {type!r}")
        kind = tensor_types()[number]
        if columns % kind.block_elements:
            raise QuantizationError(
                f"rows of {columns} are not whole blocks of {type} ({kind.block_elements})"
            )
        return number, columns // kind.block_elements * kind.block_bytes

    def _importance(
        self, number: int, type: str, columns: int, given: Floats | None
    ) -> Floats | None:
        if given is not None:
            if given.shape != (columns,):
                raise QuantizationError(
                    f"an importance of {given.shape} for rows of {columns} columns"
                )
            return np.ascontiguousarray(given, dtype=np.float32)
        if self._native.ggml_quantize_requires_imatrix(number):
            raise QuantizationError(
                f"{type} needs an importance of each column",
                next_step="put the step imatrix in front of it",
            )
        return None

    def _share(self, rows: int, work: Any) -> None:
        # The library holds no lock of Python's while it works.
        size = max(1, -(-rows // self._threads))
        parts = [slice(start, start + size) for start in range(0, rows, size)]
        if len(parts) == 1:
            work(parts[0])
            return
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(work, parts))


_ToFloat = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _Traits(ctypes.Structure):
    """ggml.h's ``ggml_type_traits``."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", _ToFloat),
        ("from_float_ref", ctypes.c_void_p),
    )


def _declared(native: Any) -> Any:
    native.ggml_quantize_init.argtypes = [ctypes.c_int]
    native.ggml_quantize_init.restype = None
    native.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
    native.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    native.ggml_quantize_chunk.argtypes = [
        *(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ]
    native.ggml_quantize_chunk.restype = ctypes.c_size_t
    native.ggml_get_type_traits.argtypes = [ctypes.c_int]
    native.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    native.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    native.ggml_validate_row_data.restype = ctypes.c_bool
    return native
