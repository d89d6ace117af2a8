"""Steps by their words: types of llama-quantize's, and steps that other packages bring."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from importlib import metadata

from edgequant.core.errors import QuantizationError
from edgequant.models.steps.quantize import Quantize
from edgequant.models.steps.step import Step
from edgequant.models.types import ALIASES, QUANTIZATIONS, canonical_type

ENTRY_POINTS = "edgequant.steps"
"""Group of entry points; each names a class of a package's own, made without arguments."""
WORD = re.compile(r"[a-z][a-z0-9-]{0,63}")


@functools.cache
def other_steps() -> Mapping[str, Callable[[], Step]]:
    """Word to class, of all packages that are installed.

    Raises:
        QuantizationError: two have the same word, or one has the name of a type, or none.
    """
    found: dict[str, Callable[[], Step]] = {}
    for point in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        if not WORD.fullmatch(point.name) or point.name.upper() in {*QUANTIZATIONS, *ALIASES}:
            raise QuantizationError(
                f"the entry point {point.name!r} ({point.value}) is no name of a step",
                next_step="use small letters, digits and '-', and no type of llama-quantize's",
            )
        kind = point.load()
        if not callable(kind) or not all(hasattr(kind, name) for name in ("recipe", "make")):
            raise QuantizationError(f"the entry point {point.name} ({point.value}) is no step")
        if point.name in found:
            raise QuantizationError(f"two steps are called {point.name!r}")
        found[point.name] = kind
    return found


def step_named(word: str) -> Step:
    """The step that a variant's word stands for.

    Raises:
        QuantizationError: there is none.
    """
    kind = other_steps().get(word)
    return Quantize(canonical_type(word)) if kind is None else kind()


def canonical_step(word: str) -> str:
    """A step's one word: of another package's as it is, of a type its full name.

    Raises:
        QuantizationError: there is no such step; the message lists those there are.
    """
    others = other_steps()
    return word if word in others else canonical_type(word, others)


def is_type(word: str) -> bool:
    """Whether a canonical step stores the weights in a type: nothing can come after it."""
    return word in QUANTIZATIONS
