"""Orthogonal matrices, Hadamard's where one is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgequant.models.orthogonal import hadamard, orthogonal


@pytest.mark.parametrize("size", [1, 2, 12, 20, 28, 36, 64, 96, 256, 576, 768, 896, 1536])
def test_hadamard_matrices_are_ones_with_orthogonal_rows(size: int) -> None:
    found = hadamard(size)
    assert found is not None
    assert set(np.unique(found)) <= {-1, 1}
    np.testing.assert_array_equal(found @ found.T, size * np.eye(size))


@pytest.mark.parametrize("size", [3, 6, 10, 184])
def test_others_are_random_and_orthogonal(size: int) -> None:
    assert hadamard(size) is None
    found = orthogonal(size, seed=1)
    np.testing.assert_allclose(found @ found.T, np.eye(size), atol=1e-12)
    np.testing.assert_array_equal(found, orthogonal(size, seed=1))
    assert not np.array_equal(found, orthogonal(size, seed=2))
