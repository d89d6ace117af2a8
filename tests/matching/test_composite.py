"""The composite score: its formula, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.matching.composite import CompositeSection, Relative, composite

BASE = Relative({"gsm8k": 0.8, "arc": 0.6}, 16e9, 2.0, 0.5)
SHARES = st.floats(0, 1)
POSITIVE = st.floats(1e-3, 1e12)


def test_the_formula() -> None:
    own = Relative({"gsm8k": 0.7, "arc": 0.5}, 4e9, 1.0, 1.0)
    found = composite(own, BASE, CompositeSection(accuracy=4, compression=3, ttft=2, tpot=1))
    assert (found.compression, found.ttft_speedup, found.tpot_speedup) == (4.0, 2.0, 0.5)
    assert found.accuracy == pytest.approx(0.6)
    expected = (4 * 0.6 + 3 * 4 / 5 + 2 * 2 / 3 + 1 * 0.5 / 1.5) / 10
    assert found.score == pytest.approx(expected)


def test_the_base_has_half_of_all_but_its_accuracy() -> None:
    assert composite(BASE, BASE).score == pytest.approx(0.5 * 0.7 + 0.5 * 0.5)


@given(SHARES, SHARES, POSITIVE, POSITIVE, POSITIVE, st.floats(0.001, 1000))
def test_it_is_a_share_and_only_proportions_of_weights_count(
    first: float, second: float, size: float, ttft: float, tpot: float, scale: float
) -> None:
    own = Relative({"gsm8k": first, "arc": second}, size, ttft, tpot)
    weights = CompositeSection()
    scaled = CompositeSection(
        accuracy=weights.accuracy * scale,
        compression=weights.compression * scale,
        ttft=weights.ttft * scale,
        tpot=weights.tpot * scale,
    )
    score = composite(own, BASE, weights).score
    assert 0 <= score <= 1
    assert composite(own, BASE, scaled).score == pytest.approx(score)


@pytest.mark.parametrize(
    "better",
    [
        {"accuracies": {"gsm8k": 0.9, "arc": 0.6}},
        {"file_bytes": 8e9},
        {"ttft_seconds": 1.0},
        {"tpot_seconds": 0.25},
    ],
)
def test_whatever_is_better_scores_higher(better: dict[str, object]) -> None:
    own = replace(BASE, **better)  # type: ignore[arg-type]
    assert composite(own, BASE).score > composite(BASE, BASE).score


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"accuracies": {"gsm8k": 0.9}}, "same tasks"),
        ({"accuracies": {"gsm8k": 90.0, "arc": 1.0}}, "a share"),
        ({"file_bytes": 0.0}, "positive"),
        ({"ttft_seconds": float("nan")}, "positive"),
        ({"tpot_seconds": float("inf")}, "positive"),
    ],
)
def test_what_cannot_be_scored_is_refused(change: dict[str, object], cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        composite(replace(BASE, **change), BASE)  # type: ignore[arg-type]
