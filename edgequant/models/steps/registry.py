"""Steps by their words: types of llama-quantize's, our own, and those that other packages bring.

A word may have an argument behind a colon: ``mix:Q2_K``.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from pathlib import Path

from edgequant.core.errors import QuantizationError
from edgequant.core.paths import expand_user
from edgequant.models.steps.quantize import Quantize
from edgequant.models.steps.step import Step
from edgequant.models.types import ALIASES, QUANTIZATIONS, canonical_type

ENTRY_POINTS = "edgequant.steps"
"""Group of entry points; each names a class of a package's own, made with the word's argument."""
WORD = re.compile(r"[a-z][a-z0-9-]{0,63}")
OWN: Mapping[str, tuple[str, str]] = {
    "awq": ("edgequant.models.steps.awq", "Awq"),
    "gptq": ("edgequant.models.steps.gptq", "Gptq"),
    "imatrix": ("edgequant.models.steps.imatrix", "Imatrix"),
    "rotate": ("edgequant.models.steps.rotate", "Rotate"),
    "lora": ("edgequant.models.steps.lora", "Lora"),
    "mix": ("edgequant.models.steps.mix", "Mix"),
}
"""Word to module and class of our own steps, imported when they are asked for."""
PATH_ARGUMENT = "path_argument"
"""Attribute of a step's class: its argument is a path, relative ones start at the file it is in."""
STORES_WEIGHTS = "stores_weights"
"""Attribute of a step's class: what comes out is quantized, so that nothing can come after it."""


@functools.cache
def other_steps() -> Mapping[str, Callable[..., Step]]:
    """Word to class, of all packages that are installed.

    Raises:
        QuantizationError: two have the same word, or one has the name of a type or of a step of
            ours, or none.
    """
    found: dict[str, Callable[..., Step]] = {}
    for point in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda p: p.name):
        if not WORD.fullmatch(point.name) or point.name.upper() in {*QUANTIZATIONS, *ALIASES}:
            raise QuantizationError(
                f"the entry point {point.name!r} ({point.value}) is no name of a step",
                next_step="use small letters, digits and '-', and no type of llama-quantize's",
            )
        kind = point.load()
        if not callable(kind) or not all(hasattr(kind, name) for name in ("recipe", "make")):
            raise QuantizationError(f"the entry point {point.name} ({point.value}) is no step")
        if point.name in found or point.name in OWN:
            raise QuantizationError(f"two steps are called {point.name!r}")
        found[point.name] = kind
    return found


def step_named(word: str) -> Step:
    """The step that a variant's word stands for.

    Raises:
        QuantizationError: there is none, or the argument is not what it takes.
    """
    name, colon, argument = word.partition(":")
    kind = _class_of(name)
    if kind is None:
        return Quantize(canonical_type(word))
    arguments = [argument] if colon else []
    try:
        inspect.signature(kind).bind(*arguments)
    except TypeError:
        takes = "takes no argument" if colon else f"needs an argument: {name}:..."
        raise QuantizationError(f"the step {name} {takes}") from None
    return kind(*arguments)


def canonical_step(word: str, folder: Path | None = None) -> str:
    """A step's one word: as it is, but for a type, which gets its full name, and a path.

    Args:
        word: of a step.
        folder: where an argument that is a relative path starts; by default the working folder.

    Raises:
        QuantizationError: there is no such step; the message lists those there are.
    """
    if _class_of(word.partition(":")[0]) is None:
        return canonical_type(word, [*OWN, *other_steps()])
    word = located(word, folder or Path.cwd())
    step_named(word)
    return word


def located(word: str, folder: Path) -> str:
    """A step's word; where its argument is a relative path, made absolute from a folder."""
    name, colon, argument = word.partition(":")
    if not colon or not getattr(_class_of(name), PATH_ARGUMENT, False):
        return word
    return f"{name}:{folder / expand_user(Path(argument))}"


def stores_weights(word: str) -> bool:
    """Whether a canonical step stores the weights quantized: nothing can come after it."""
    if is_type(word):
        return True
    return bool(getattr(_class_of(word.partition(":")[0]), STORES_WEIGHTS, False))


def is_type(word: str) -> bool:
    """Whether a canonical step is a type of llama-quantize's."""
    return word in QUANTIZATIONS


def _class_of(name: str) -> Callable[..., Step] | None:
    if name in OWN:
        module, kind = OWN[name]
        found: Callable[..., Step] = getattr(import_module(module), kind)
        return found
    return other_steps().get(name)
