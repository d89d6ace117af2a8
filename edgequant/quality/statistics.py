"""What the scores of all tokens come to, with the errors of the means. Pure.

Tokens of one passage are not independent, so errors are those of a mean over clusters: with n
tokens in G passages and r_g the sum of (value - mean) over the tokens of passage g, the standard
error is ``sqrt(G / (G - 1) * sum over g of r_g ** 2) / n``. One passage alone tells no error. That
of a perplexity is the perplexity times the error of its mean log-likelihood (first order).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.quality.divergence import TokenScores


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error; None where one passage is all there is."""

    value: float
    error: float | None

    def exponential(self) -> Mean:
        """The exponential function of it, its error to first order."""
        value = math.exp(self.value)
        return Mean(value, None if self.error is None else value * self.error)


@dataclass(frozen=True)
class Summary:
    """One variant on one text.

    Attributes:
        tokens: counted.
        passages: that they stand in.
        perplexity: of the variant, ``exp(-mean log-likelihood)``.
        reference_perplexity: of the reference.
        perplexity_ratio: of the two; its error is that of paired tokens.
        divergence: the mean, in nats.
        median_divergence: in nats.
        p99_divergence: the 99th percentile, in nats (linear between neighbours).
        same_top: share of places with equal likeliest tokens.
    """

    tokens: int
    passages: int
    perplexity: Mean
    reference_perplexity: Mean
    perplexity_ratio: Mean
    divergence: Mean
    median_divergence: float
    p99_divergence: float
    same_top: Mean


def summarize(scores: TokenScores) -> Summary:
    """All figures of one variant on one text.

    Args:
        scores: of at least one token.
    """
    own, theirs = scores.variant_log_likelihood, scores.reference_log_likelihood

    def mean(values: npt.NDArray[Any]) -> Mean:
        return clustered_mean(values, scores.passage)

    return Summary(
        tokens=len(scores),
        passages=len(np.unique(scores.passage)),
        perplexity=mean(-own).exponential(),
        reference_perplexity=mean(-theirs).exponential(),
        perplexity_ratio=mean(theirs - own).exponential(),
        divergence=mean(scores.divergence),
        median_divergence=float(np.median(scores.divergence)),
        p99_divergence=float(np.percentile(scores.divergence, 99)),
        same_top=mean(scores.same_top),
    )


def clustered_mean(values: npt.NDArray[Any], clusters: npt.NDArray[Any]) -> Mean:
    """Mean over all values, with an error that lets those of one cluster depend on each other.

    Args:
        values: shape (n,), at least one.
        clusters: which cluster each value belongs to, shape (n,).
    """
    numbers = values.astype(np.float64)
    mean = float(numbers.mean())
    _, places = np.unique(clusters, return_inverse=True)
    sums = np.bincount(places, numbers - mean)
    count = len(sums)
    if count < 2:
        return Mean(mean, None)
    variance = count / (count - 1) * float((sums**2).sum())
    return Mean(mean, math.sqrt(variance) / len(numbers))
