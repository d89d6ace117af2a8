"""One number for one relative of a model: how right, how small and how quick, against 16 bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, model_validator

from edgequant.core.fields import Name, Section

Weight = Annotated[float, Field(ge=0, le=1e9)]


class CompositeSection(Section):
    """What counts how much in the composite score; only the weights' proportions matter."""

    accuracy: Weight = 0.5
    """Of the mean accuracy over the tasks."""
    compression: Weight = 0.2
    """Of how many times smaller the file is than the 16-bit one."""
    ttft: Weight = 0.1
    """Of how many times sooner the first token is there."""
    tpot: Weight = 0.2
    """Of how many times quicker each further token is."""
    base: Name | None = None
    """The variant that all are set against; by default the one called F16 or BF16."""

    @model_validator(mode="after")
    def _weighs_something(self) -> CompositeSection:
        if self.total <= 0:
            raise ValueError("all weights are 0")
        return self

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return self.accuracy + self.compression + self.ttft + self.tpot


@dataclass(frozen=True)
class Relative:
    """What is known of one variant of a model.

    Attributes:
        accuracies: share answered right of each task, 0 to 1.
        file_bytes: of its GGUF.
        ttft_seconds: to the first token of a usual prompt.
        tpot_seconds: for each further token.
    """

    accuracies: Mapping[str, float]
    file_bytes: float
    ttft_seconds: float
    tpot_seconds: float


@dataclass(frozen=True)
class Composite:
    """The score of a relative, and what it is made of.

    Attributes:
        score: 0 to 1.
        accuracy: mean over the tasks, 0 to 1.
        compression: bytes of the base's file over its own; more is better.
        ttft_speedup: the base's seconds to the first token over its own.
        tpot_speedup: the base's seconds for each further token over its own.
    """

    score: float
    accuracy: float
    compression: float
    ttft_speedup: float
    tpot_speedup: float


def composite(
    relative: Relative, base: Relative, weights: CompositeSection | None = None
) -> Composite:
    """The composite score of one relative.

    The mean accuracy counts as it is. A ratio r to the base counts as r / (1 + r): one half where
    both are equal, near 1 where the relative is many times better, near 0 where it is many times
    worse. So each part lies between 0 and 1, and a score does not depend on which other relatives
    are looked at.

    Args:
        relative: what is scored.
        base: the 16-bit model, on the same board and tasks.
        weights: of the four parts.

    Raises:
        ValueError: the two have other tasks or none, an accuracy is no share, or bytes or seconds
            are not positive.
    """
    weights = CompositeSection() if weights is None else weights
    if relative.accuracies.keys() != base.accuracies.keys() or not relative.accuracies:
        raise ValueError("a relative and its base need the same tasks, one at least")
    for one in (relative, base):
        if not all(0 <= share <= 1 for share in one.accuracies.values()):
            raise ValueError("an accuracy is a share from 0 to 1")
    accuracy = math.fsum(relative.accuracies.values()) / len(relative.accuracies)
    compression = _ratio(base.file_bytes, relative.file_bytes)
    ttft = _ratio(base.ttft_seconds, relative.ttft_seconds)
    tpot = _ratio(base.tpot_seconds, relative.tpot_seconds)
    parts = (
        weights.accuracy * accuracy,
        weights.compression * compression / (1 + compression),
        weights.ttft * ttft / (1 + ttft),
        weights.tpot * tpot / (1 + tpot),
    )
    return Composite(math.fsum(parts) / weights.total, accuracy, compression, ttft, tpot)


def _ratio(base: float, own: float) -> float:
    if not (0 < base < math.inf and 0 < own < math.inf):
        raise ValueError(f"bytes and seconds must be positive, not {base:g} and {own:g}")
    return base / own
