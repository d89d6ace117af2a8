"""A variant of a model: a name, and the steps that make its file from the 16-bit one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgequant.core.errors import QuantizationError
from edgequant.models.steps.registry import canonical_step, stores_weights
from edgequant.models.types import canonical_type

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True)
class Variant:
    """What is made of a model."""

    name: str
    """What it is called in tables; files are named for it."""
    steps: tuple[str, ...]
    """Applied one after another, the first to the 16-bit file."""
    max_bytes: int | None = None
    """A larger file is an error."""

    @classmethod
    def of_type(cls, name: str) -> Variant:
        """The shortest one: a type of llama-quantize's, by any of its names.

        Raises:
            QuantizationError: there is no such type.
        """
        full = canonical_type(name)
        return cls(full, (full,))

    @classmethod
    def of_steps(cls, name: str, steps: Sequence[str], max_bytes: int | None = None) -> Variant:
        """A named variant.

        Raises:
            QuantizationError: the name is none, there is no step, one is unknown, or something
                comes after the type that the weights are stored in.
        """
        if not NAME.fullmatch(name):
            raise QuantizationError(
                f"{name!r} is no name of a variant",
                next_step="use at most 64 letters, digits, '.', '_', '+' and '-'",
            )
        if not steps:
            raise QuantizationError(
                f"the variant {name} has no steps", next_step='steps = ["Q2_K"]'
            )
        full = tuple(canonical_step(step) for step in steps)
        types = [step for step in full[:-1] if stores_weights(step)]
        if types:
            raise QuantizationError(
                f"the variant {name}: nothing can come after {types[0]}, which stores the weights",
                next_step=f"leave {types[0]} out, or put it last",
            )
        return cls(name, full, max_bytes)


def variants_of_types(names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants that several types stand for, each once, in the order given.

    Raises:
        QuantizationError: one of them is unknown, or there are none.
    """
    if not names:
        raise QuantizationError("no quantization type given", next_step="give --type Q4_K_M")
    return tuple(dict.fromkeys(Variant.of_type(name) for name in names))
