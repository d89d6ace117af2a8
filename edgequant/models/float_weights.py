"""A 16- or 32-bit GGUF's weights as numbers, and a file with some of them changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import QuantizationError
from edgequant.models.formats.gguf import GgufInfo, Tensor
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.formats.rewrite import NewTensor, read_tensor, rewrite
from edgequant.models.formats.types import FLOAT_TYPES, file_type_numbers

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class FloatWeights:
    """Reads one tensor at a time.

    Args:
        info: header of the file.
        quantizer: ggml's.

    Raises:
        QuantizationError: its weights are quantized already.
    """

    def __init__(self, info: GgufInfo, quantizer: Quantizer) -> None:
        self.info = info
        self.quantizer = quantizer
        self.tensors: Mapping[str, Tensor] = {tensor.name: tensor for tensor in info.tensors}
        if stored := [t for t in info.tensors if t.type not in FLOAT_TYPES]:
            raise QuantizationError(
                f"{stored[0].name} is quantized already ({stored[0].type})", subject=info.path
            )

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def read(self, name: str) -> Floats:
        """A matrix of shape (rows, columns); a norm or bias has one row."""
        tensor = self.tensors[name]
        data = np.array(read_tensor(self.info.path, tensor))
        return self.quantizer.dequantize(data, tensor.type, tensor.shape[0])

    def write(
        self,
        out: Path,
        changed: Mapping[str, Callable[[], npt.NDArray[np.floating]]],
        *,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        on_tensor: Callable[[str], None] = lambda _name: None,
    ) -> GgufInfo:
        """A copy of the file with some tensors in 32-bit floats: 16 bits would round them again.

        Args:
            out: the file to write.
            changed: name to what gives its numbers, called when it is written.
            shapes: in ggml's order, of tensors that the file has not.
            on_tensor: called with each tensor's name after it is written.
        """
        given = dict(shapes or {})

        def read(make: Callable[[], npt.NDArray[np.floating]]) -> Floats:
            return make().astype(np.float32)

        replaced = {
            name: NewTensor(
                "F32",
                given[name] if name in given else self.tensors[name].shape,
                partial(read, make),
            )
            for name, make in changed.items()
        }
        metadata = {"general.file_type": file_type_numbers()["F32"]}
        return rewrite(
            self.info.path, out, replaced=replaced, metadata=metadata, on_tensor=on_tensor
        )


def spread_rows(values: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """At most so many rows of a matrix, evenly spread over all of them."""
    rows = len(values)
    return values if rows <= count else values[np.linspace(0, rows - 1, count).astype(int)]
