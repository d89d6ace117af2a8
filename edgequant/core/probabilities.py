"""What logits stand for. Pure; in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def log_softmax(logits: npt.NDArray[Any]) -> Doubles:
    """Logarithms of the probabilities that logits stand for.

    Args:
        logits: shape (n, vocabulary), finite.
    """
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def divergences(log_p: Doubles, log_q: Doubles) -> Doubles:
    """Kullback-Leibler divergence of q from p at each place, in nats, never below 0.

    Args:
        log_p: from :func:`log_softmax`, shape (n, vocabulary).
        log_q: of the same shape.

    Returns:
        Shape (n,).
    """
    # It is never below 0; the last bits of the sum may be.
    found: Doubles = np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=1), 0.0)
    return found
