"""What of llama.cpp's own library the bindings do not declare, and a batch of tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Sequence
from typing import Any

MUL_MAT, MUL_MAT_ID = "MUL_MAT", "MUL_MAT_ID"
"""ggml's names of a product with a matrix, and with one of several (a mixture's experts)."""
GET_ROWS = "GET_ROWS"
"""And of a look-up in a table, such as that of the embeddings."""

ERROR_LEVEL = 4
"""ggml's number for messages that are errors."""
MAX_DIMENSIONS = 4
_MAX_PARAMETERS = 64 // 4
_MAX_OPERANDS = 10
_MAX_NAME = 64


class Tensor(ctypes.Structure):
    """ggml.h's ``ggml_tensor``."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * MAX_DIMENSIONS),
    ("nb", ctypes.c_size_t * MAX_DIMENSIONS),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * _MAX_PARAMETERS),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * _MAX_OPERANDS),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * _MAX_NAME),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


def native(llama: Any) -> Any:
    """ggml's own functions, which are in the same library as llama.cpp's."""
    library = llama._lib
    library.ggml_get_name.argtypes = library.ggml_nelements.argtypes = [ctypes.c_void_p]
    library.ggml_get_name.restype = library.ggml_op_name.restype = ctypes.c_char_p
    library.ggml_nelements.restype = ctypes.c_int64
    library.ggml_op_name.argtypes = [ctypes.c_int]
    moved = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    for move in (library.ggml_backend_tensor_get, library.ggml_backend_tensor_set):
        move.argtypes, move.restype = moved, None
    return library


_callback: Any = None
_errors: list[str] = []


def keep_errors(llama: Any) -> list[str]:
    """What llama.cpp says from now on is dropped, but for errors: they are put into the list.

    There is one list, as there is one callback, for the whole process; it is emptied here.
    """

    def keep(level: int, text: bytes, _data: Any) -> None:
        if level == ERROR_LEVEL:
            _errors.append(text.decode(errors="replace").strip())

    # Kept for as long as the library may call it.
    global _callback
    _errors.clear()
    _callback = llama.llama_log_callback(keep)
    llama.llama_log_set(_callback, ctypes.c_void_p(0))
    return _errors


def decode(
    llama: Any,
    context: Any,
    tokens: Sequence[int],
    start: int = 0,
    outputs: Collection[int] | None = None,
) -> int:
    """Evaluate tokens at the places from ``start`` on; 0 where it went well.

    Args:
        llama: the bindings.
        context: of a model.
        tokens: as many as a batch may have.
        start: the first one's place.
        outputs: places whose logits are wanted, by default all.
    """
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for number, token in enumerate(tokens):
            place = start + number
            batch.token[number] = token
            batch.pos[number] = place
            batch.n_seq_id[number] = 1
            batch.seq_id[number][0] = 0
            batch.logits[number] = outputs is None or place in outputs
        return int(llama.llama_decode(context, batch))
    finally:
        llama.llama_batch_free(batch)
