"""The types of quantization, as llama-quantize names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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


def canonical_type(name: str, others: Iterable[str] = ()) -> str:
    """The full, upper-case name of a quantization.

    Args:
        name: in any of its forms.
        others: what could stand in its place, for the message.

    Raises:
        QuantizationError: llama-quantize knows no such type; the message lists those it knows.
    """
    upper = name.upper().replace("-", "_")
    upper = ALIASES.get(upper, upper)
    if upper not in QUANTIZATIONS:
        raise QuantizationError(
            f"unknown quantization type {name!r}",
            next_step=f"choose from {', '.join([*QUANTIZATIONS, *others])}",
        )
    return upper
