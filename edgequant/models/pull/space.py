"""What follows a pull, compared with what this machine has: before anything big is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.core.host import available_memory_bytes
from edgequant.core.progress import say
from edgequant.models.steps.quantize import bits_of, quantized_bytes
from edgequant.models.steps.registry import is_type
from edgequant.models.variant import Variant

BYTES_OF_A_WEIGHT = 2
"""Of nearly all models on a hub; what an 8-bit one becomes in its 16-bit file is counted short."""


@dataclass(frozen=True)
class Conversion:
    """Files that will be made of a model."""

    folder: Path
    """Where they go: also what is unfinished lies there, and nothing elsewhere."""
    variants: Sequence[Variant]

    def disk_bytes(self, model_bytes: int) -> int:
        """The 16-bit file, and one for each variant's type."""
        parameters = model_bytes // BYTES_OF_A_WEIGHT
        types = {step for v in self.variants for step in v.steps[-1:] if is_type(step)}
        made = sum(quantized_bytes(parameters, bits_of(t)) for t in types - {"F16", "BF16"})
        return parameters * BYTES_OF_A_WEIGHT + made

    def warn_of_memory(self, model_bytes: int) -> None:
        """Say so where the 16-bit file, which is loaded once as a check, is larger than the RAM."""
        free = available_memory_bytes()
        if model_bytes > free:
            say(
                f"warning: the 16-bit model takes about {model_bytes / 1e9:.1f} GB and "
                f"{free / 1e9:.1f} GB of memory are free: loading it will be slow"
            )
