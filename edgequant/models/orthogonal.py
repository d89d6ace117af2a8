"""Orthogonal matrices that spread every channel over all: Hadamard's where there is a known one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def orthogonal(size: int, seed: int) -> Doubles:
    """A matrix R with ``R @ R.T == I``, always the same for a seed.

    Where a Hadamard matrix of the size is known (Sylvester's and Paley's constructions, and their
    products), it is that, its rows with random signs; else a random one.
    """
    rng = np.random.default_rng(seed)
    found = hadamard(size)
    if found is not None:
        signs: Doubles = rng.choice([-1.0, 1.0], size)[:, None]
        turned: Doubles = signs * found / np.sqrt(size)
        return turned
    factor, upper = np.linalg.qr(rng.standard_normal((size, size)))
    # Without the signs, the draw would not be even over all orthogonal matrices.
    drawn: Doubles = factor * np.sign(np.diagonal(upper))
    return drawn


def hadamard(size: int) -> Doubles | None:
    """A matrix of ones and minus ones with orthogonal rows; None where no construction here fits.

    Args:
        size: of both sides; 576 is 16 times 36, say.
    """
    found = _base(size)
    if found is None and size % 2 == 0:
        half = hadamard(size // 2)
        return None if half is None else np.block([[half, half], [half, -half]])
    return found


def _base(size: int) -> Doubles | None:
    if size == 1:
        return np.ones((1, 1))
    if size % 4:
        return None
    if _is_prime(size - 1):
        return _paley_one(size - 1)
    half = size // 2
    if half % 2 == 0 and (half - 1) % 4 == 1 and _is_prime(half - 1):
        return _paley_two(half - 1)
    return None


def _paley_one(prime: int) -> Doubles:
    """Order ``prime + 1``, for a prime that is 3 mod 4."""
    core = np.zeros((prime + 1, prime + 1))
    core[0, 1:], core[1:, 0] = 1, -1
    core[1:, 1:] = _jacobsthal(prime)
    found: Doubles = np.eye(prime + 1) + core
    return found


def _paley_two(prime: int) -> Doubles:
    """Order ``2 * (prime + 1)``, for a prime that is 1 mod 4."""
    core = np.zeros((prime + 1, prime + 1))
    core[0, 1:] = core[1:, 0] = 1
    core[1:, 1:] = _jacobsthal(prime)
    return np.kron(core, [[1, 1], [1, -1]]) + np.kron(np.eye(prime + 1), [[1, -1], [-1, -1]])


def _jacobsthal(prime: int) -> Doubles:
    """Entry (i, j): 1 where i - j is a square modulo the prime, -1 where it is none, 0 for 0."""
    squares = np.full(prime, -1.0)
    squares[np.arange(1, prime) ** 2 % prime] = 1
    squares[0] = 0
    places = np.arange(prime)
    found: Doubles = squares[(places[:, None] - places[None, :]) % prime]
    return found


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % k for k in range(2, int(number**0.5) + 1))
