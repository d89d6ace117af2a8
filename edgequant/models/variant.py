"""A variant of a model: a name, and the steps that make its file from the 16-bit one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgequant.core.errors import QuantizationError

QUANTIZATIONS = (
    "Q1_0",
    "Q2_0",
    "Q4_0",
    "Q4_1",
    "MXFP4_MOE",
    "Q5_0",
    "Q5_1",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ2_M",
    "IQ1_S",
    "IQ1_M",
    "TQ1_0",
    "TQ2_0",
    "Q2_K",
    "Q2_K_S",
    "IQ3_XXS",
    "IQ3_S",
    "IQ3_M",
    "IQ3_XS",
    "Q3_K_S",
    "Q3_K_M",
    "Q3_K_L",
    "IQ4_NL",
    "IQ4_XS",
    "Q4_K_S",
    "Q4_K_M",
    "Q5_K_S",
    "Q5_K_M",
    "Q6_K",
    "Q8_0",
    "F16",
    "BF16",
    "F32",
)
"""What the pinned llama-quantize knows, in its own order."""

ALIASES: Mapping[str, str] = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}

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
        full = tuple(canonical_type(step) for step in steps)
        if len(full) > 1:
            raise QuantizationError(
                f"the variant {name}: nothing can come after {full[0]}, which stores the weights",
                next_step=f'steps = ["{full[-1]}"]',
            )
        return cls(name, full, max_bytes)


def canonical_type(name: str) -> str:
    """The full, upper-case name of a quantization.

    Raises:
        QuantizationError: llama-quantize knows no such type; the message lists those it knows.
    """
    upper = name.upper().replace("-", "_")
    upper = ALIASES.get(upper, upper)
    if upper not in QUANTIZATIONS:
        raise QuantizationError(
            f"unknown quantization type {name!r}",
            next_step=f"choose from {', '.join(QUANTIZATIONS)}",
        )
    return upper


def variants_of_types(names: Sequence[str]) -> tuple[Variant, ...]:
    """The variants that several types stand for, each once, in the order given.

    Raises:
        QuantizationError: one of them is unknown, or there are none.
    """
    if not names:
        raise QuantizationError("no quantization type given", next_step="give --type Q4_K_M")
    return tuple(dict.fromkeys(Variant.of_type(name) for name in names))
