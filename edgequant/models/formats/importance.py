"""Importance matrices as llama-imatrix writes them and llama-quantize reads them: GGUF files.

Of each weight they hold the sum of squares of every column's input, and how many rows were summed,
for each expert of a mixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import GgufError
from edgequant.models.activations import Sums
from edgequant.models.formats.gguf import GgufInfo, Tensor, read_gguf

SUMS, COUNTS = ".in_sum2", ".counts"
KIND = "imatrix"

Floats = npt.NDArray[np.float32]


def write_importance(
    out: Path, sums: Mapping[str, Sums], *, dataset: str, passages: int, context: int
) -> None:
    """Write a file that llama-quantize takes.

    Args:
        out: the file.
        sums: of squares, by weight.
        dataset: what it was made on.
        passages: how many.
        context: tokens of the longest.
    """
    from gguf import GGUFWriter

    writer = GGUFWriter(out, KIND)
    writer.add_type(KIND)
    writer.add_array("imatrix.datasets", [dataset])
    writer.add_uint32("imatrix.chunk_count", passages)
    writer.add_uint32("imatrix.chunk_size", context)
    for name in sorted(sums):
        writer.add_tensor(name + SUMS, sums[name].values.astype(np.float32))
        writer.add_tensor(name + COUNTS, sums[name].counts.astype(np.float32)[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_importance(path: Path) -> dict[str, Floats]:
    """Mean squares of every column's input, by weight, shape (experts, columns).

    An expert that no token chose has ones, as llama-quantize has it.

    Raises:
        GgufError: it is no importance matrix.
    """
    info = read_gguf(path)
    tensors = {tensor.name: tensor for tensor in info.tensors}
    found = {}
    for name, tensor in tensors.items():
        if not name.endswith(SUMS):
            continue
        weight = name.removesuffix(SUMS)
        counts = tensors.get(weight + COUNTS)
        if counts is None or {tensor.type, counts.type} != {"F32"}:
            raise GgufError(f"{weight} has no sums with counts in 32-bit floats", subject=path)
        found[weight] = _means(_values(info, tensor), _values(info, counts), path)
    if not found:
        raise GgufError("is no importance matrix", subject=path)
    return found


def _means(sums: npt.NDArray[Any], counts: npt.NDArray[Any], path: Path) -> Floats:
    if counts.size == 0 or sums.size % counts.size:
        raise GgufError("has sums and counts that do not fit", subject=path)
    sums, counts = sums.reshape(counts.size, -1), counts.reshape(-1, 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 1).astype(np.float32)
    if not np.isfinite(means).all():
        raise GgufError("has values that are no numbers", subject=path)
    return means


def _values(info: GgufInfo, tensor: Tensor) -> npt.NDArray[np.float32]:
    return np.fromfile(info.path, np.float32, count=tensor.elements, offset=tensor.offset)
