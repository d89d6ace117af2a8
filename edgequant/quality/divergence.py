"""Two models' logits at the same places, token by token. Pure; all sums in float64.

With logits z of the reference and y of a variant at one place, and ``lse`` the logarithm of the sum
of exponentials, ``log p = z - lse(z)`` and ``log q = y - lse(y)``:

- log-likelihood of the token t that really follows: ``log p[t]`` and ``log q[t]``
- Kullback-Leibler divergence, in nats: ``sum over v of p[v] * (log p[v] - log q[v])``
- equal top tokens: ``argmax z == argmax y`` (of equal logits the lowest token id counts)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from edgequant.core.probabilities import divergences

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TokenScores:
    """One value for each counted token.

    Attributes:
        reference_log_likelihood: of the token that follows, in nats, shape (n,).
        variant_log_likelihood: the same under the variant.
        divergence: of the variant from the reference, in nats, never below 0.
        same_top: both models' likeliest token is the same.
        passage: number of the passage that the token stands in.
    """

    reference_log_likelihood: Floats
    variant_log_likelihood: Floats
    divergence: Floats
    same_top: npt.NDArray[np.bool_]
    passage: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.divergence)


def compare(log_p: Floats, log_q: Floats, following: Sequence[int], passage: int) -> TokenScores:
    """Both models at the same places.

    Args:
        log_p: logarithms of the reference's probabilities, shape (n, vocabulary).
        log_q: of the variant, of the same shape.
        following: the token that follows each place, n of them.
        passage: number of the passage that the places belong to.
    """
    places = np.arange(len(following))
    targets = np.asarray(following, dtype=np.int64)
    return TokenScores(
        reference_log_likelihood=log_p[places, targets],
        variant_log_likelihood=log_q[places, targets],
        divergence=divergences(log_p, log_q),
        same_top=log_p.argmax(axis=1) == log_q.argmax(axis=1),
        passage=np.full(len(targets), passage, dtype=np.int64),
    )


def concatenate(parts: Sequence[TokenScores]) -> TokenScores:
    """Several parts as one; at least one part is needed."""
    names = [field.name for field in fields(TokenScores)]
    return TokenScores(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))
