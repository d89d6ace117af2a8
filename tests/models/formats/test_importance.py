"""Importance matrices are read back as they were written, and damaged ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgequant.core.errors import GgufError
from edgequant.models.activations import Sums
from edgequant.models.formats.importance import read_importance, write_importance
from tests.models.gguf_writer import TensorSpec, gguf


def test_sums_become_means(tmp_path: Path) -> None:
    sums = {
        "a.weight": Sums(np.array([[2.0, 4.0]]), np.array([2])),
        "experts.weight": Sums(np.array([[3.0, 9.0], [0.0, 0.0]]), np.array([3, 0])),
    }
    path = tmp_path / "m.imatrix"
    write_importance(path, sums, dataset="words", passages=1, context=512)
    found = read_importance(path)
    assert found["a.weight"].tolist() == [[1.0, 2.0]]
    # As llama-quantize has it: of an expert that no token chose all columns matter alike.
    assert found["experts.weight"].tolist() == [[1.0, 3.0], [1.0, 1.0]]


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [TensorSpec("a.weight.in_sum2", (4,), "F32")],
        [TensorSpec("a.weight.in_sum2", (4,), "F16"), TensorSpec("a.weight.counts", (1,), "F32")],
        [TensorSpec("a.weight.in_sum2", (4,), "F32"), TensorSpec("a.weight.counts", (3,), "F32")],
    ],
)
def test_another_file_is_refused(tmp_path: Path, tensors: list[TensorSpec]) -> None:
    path = tmp_path / "m.imatrix"
    path.write_bytes(gguf({"general.architecture": "imatrix"}, tensors))
    with pytest.raises(GgufError):
        read_importance(path)
