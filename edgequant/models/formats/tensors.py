"""The numbers in a GGUF's tensors, read with the gguf package."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def first_tensor_not_finite(gguf: Path) -> str | None:
    """Name of the first 16- or 32-bit float tensor that holds NaN or an infinite value.

    Args:
        gguf: a file whose header was checked: the package's reader trusts it.
    """
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader

    for tensor in GGUFReader(gguf).tensors:
        values: Any = tensor.data
        if tensor.tensor_type == GGMLQuantizationType.BF16:
            # Its upper half of a float32: all exponent bits set.
            finite = (values.view(np.uint16) & 0x7F80) != 0x7F80
        elif tensor.tensor_type in (GGMLQuantizationType.F16, GGMLQuantizationType.F32):
            finite = np.isfinite(values)
        else:
            continue
        if not finite.all():
            return str(tensor.name)
    return None
