"""The type that llama-quantize would give each tensor, asked of itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from edgequant.core.errors import QuantizationError
from edgequant.core.process import run_captured
from edgequant.models.steps.step import HostBuild

TIMEOUT_SECONDS = 600.0
_LINE = re.compile(
    r"\[\s*\d+/\s*\d+\]\s+(?P<tensor>\S+)\s+- \[.*\], type =\s+\S+, size = .* -> "
    r".*\((?P<type>\w+)\)"
)


def plain_types(gguf: Path, quantization: str, host: HostBuild) -> dict[str, str]:
    """Tensor to ggml type, for all that are quantized.

    Args:
        gguf: the 16-bit file.
        quantization: a type of llama-quantize's.
        host: build of this machine's tools.

    Raises:
        QuantizationError: llama-quantize failed.
    """
    program = host.binary("llama-quantize")
    ran = run_captured(
        [str(program), "--dry-run", str(gguf), quantization], timeout_seconds=TIMEOUT_SECONDS
    )
    found = parse_dry_run(ran.output.splitlines())
    if ran.status != 0 or not found:
        raise QuantizationError(
            f"llama-quantize does not tell what it would make of it ({ran.failure})",
            subject=gguf,
        )
    return found


def parse_dry_run(lines: Iterable[str]) -> dict[str, str]:
    """Tensor to ggml type, from what ``llama-quantize --dry-run`` prints."""
    found = (_LINE.search(line) for line in lines)
    return {line["tensor"]: line["type"].upper() for line in found if line}
