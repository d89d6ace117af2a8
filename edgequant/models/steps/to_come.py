"""What the steps to come will do: for those that have to know how weights will be stored."""

from __future__ import annotations

from dataclasses import replace

from edgequant.models.model_file import ModelFile
from edgequant.models.steps.registry import step_named, stores_weights
from edgequant.models.steps.step import StepContext


def stored_types(source: ModelFile, context: StepContext) -> dict[str, str] | None:
    """Tensor to ggml type, for all that will be quantized; None where no step to come says it.

    Args:
        source: the 16-bit file.
        context: of the step that asks.

    Raises:
        EdgequantError: the types cannot be worked out.
    """
    if not context.rest or not stores_weights(context.rest[-1]):
        return None
    last = step_named(context.rest[-1])
    if not hasattr(last, "stored_types"):
        return None
    found: dict[str, str] = last.stored_types(source, replace(context, rest=()))
    return found
