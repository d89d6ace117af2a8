"""Divergence and its statistics: by hand, and what holds for any logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgequant.core.probabilities import log_softmax
from edgequant.quality.divergence import TokenScores, concatenate
from edgequant.quality.divergence import compare as compare_probabilities
from edgequant.quality.measure import mark_front
from edgequant.quality.statistics import clustered_mean, summarize

LOGITS = arrays.arrays(np.float32, (3, 5), elements=st.floats(-50, 50, width=32))


def compare(p: np.ndarray, q: np.ndarray, following: list[int], passage: int) -> TokenScores:
    return compare_probabilities(log_softmax(p), log_softmax(q), following, passage)


def test_two_tokens_by_hand() -> None:
    # p = (3/4, 1/4), q = (1/2, 1/2).
    p, q = np.log(np.array([[3.0, 1.0]])), np.zeros((1, 2))
    scores = compare(p, q, [1], passage=7)
    assert scores.divergence[0] == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert scores.reference_log_likelihood[0] == pytest.approx(math.log(0.25))
    assert scores.variant_log_likelihood[0] == pytest.approx(math.log(0.5))
    assert scores.same_top.tolist() == [True]
    assert scores.passage.tolist() == [7]
    assert compare(p, -p, [1], passage=0).same_top.tolist() == [False]


def test_a_uniform_models_perplexity_is_its_vocabulary() -> None:
    rng = np.random.default_rng(0)
    scores = [
        compare(rng.normal(size=(4, 1024)), np.full((4, 1024), 3.5), [0, 5, 9, 1023], passage=i)
        for i in range(3)
    ]
    found = summarize(concatenate(scores))
    assert found.perplexity.value == pytest.approx(1024)
    assert found.perplexity.error == pytest.approx(0, abs=1e-9)
    assert (found.tokens, found.passages) == (12, 3)


@settings(deadline=None)
@given(LOGITS, LOGITS, st.floats(-1000, 1000))
def test_divergence_is_never_negative_and_nought_for_itself(
    first: np.ndarray, second: np.ndarray, shift: float
) -> None:
    following = [0, 2, 4]
    assert (compare(first, second, following, 0).divergence >= 0).all()
    itself = compare(first, first, following, 0)
    assert (itself.divergence == 0).all()
    assert itself.same_top.all()
    # A constant added to all logits changes no distribution.
    moved = compare(first.astype(np.float64), first.astype(np.float64) + shift, following, 0)
    assert moved.divergence == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(arrays.arrays(np.float32, (2, 6), elements=st.floats(-3e4, 3e4, width=32)))
def test_probabilities_sum_to_one_however_large_the_logits(logits: np.ndarray) -> None:
    assert np.exp(log_softmax(logits)).sum(axis=1) == pytest.approx(1)


def test_the_summary_by_hand() -> None:
    own = -np.log(np.array([2.0, 8.0, 4.0, 4.0]))
    scores = TokenScores(
        reference_log_likelihood=np.zeros(4),
        variant_log_likelihood=own,
        divergence=np.array([0.0, 1.0, 2.0, 5.0]),
        same_top=np.array([True, True, True, False]),
        passage=np.array([0, 0, 1, 1]),
    )
    found = summarize(scores)
    assert found.perplexity.value == pytest.approx(4)
    # Both passages have the same mean: nothing tells that another one would differ.
    assert found.perplexity.error == pytest.approx(0, abs=1e-12)
    assert found.reference_perplexity.value == 1
    assert found.perplexity_ratio.value == pytest.approx(4)
    assert (found.divergence.value, found.median_divergence) == (2, 1.5)
    assert found.p99_divergence == pytest.approx(2 + 0.97 * 3)
    # Residual sums of the passages: -3 and 3, so sqrt(2 * 18) / 4.
    assert found.divergence.error == pytest.approx(1.5)
    assert found.same_top.value == 0.75


def test_clusters_of_one_give_the_textbook_error_and_one_cluster_none() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    error = clustered_mean(values, np.arange(4)).error
    assert error == pytest.approx(values.std(ddof=1) / 2)
    assert clustered_mean(values, np.zeros(4)).error is None
    # Each value twice in its cluster is no more evidence than once.
    twice = clustered_mean(np.repeat(values, 2), np.repeat(np.arange(4), 2))
    assert twice.error == pytest.approx(error)


def test_the_front() -> None:
    rows = [
        {"bytes": size, "divergence": divergence}
        for size, divergence in ((1, 5.0), (2, 6.0), (3, 1.0), (3, 1.0), (4, 1.0))
    ]
    assert [row["on_front"] for row in mark_front(rows)] == [True, False, True, True, False]
