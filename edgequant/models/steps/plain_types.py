"""The type that llama-quantize would give each tensor, asked of itself."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edgequant.core.errors import QuantizationError
from edgequant.core.process import run_captured
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import HostBuild

TIMEOUT_SECONDS = 600.0
_LINE = re.compile(
    r"\[\s*\d+/\s*\d+\]\s+(?P<tensor>\S+)\s+- \[.*\], type =\s+\S+, size = .* -> "
    r".*\((?P<type>\w+)\)"
)


def plain_types(source: ModelFile, quantization: str, host: HostBuild) -> dict[str, str]:
    """Tensor to ggml type, for all that are quantized.

    Args:
        source: the 16-bit file; with an importance matrix some types are others.
        quantization: a type of llama-quantize's.
        host: build of this machine's tools.

    Raises:
        QuantizationError: llama-quantize failed.
    """
    options = ["--dry-run"]
    if source.importance is not None:
        options += ["--imatrix", str(source.importance.path)]
    ran = run_captured(
        [str(host.binary("llama-quantize")), *options, str(source.path), quantization],
        timeout_seconds=TIMEOUT_SECONDS,
    )
    found = parse_dry_run(ran.output.splitlines())
    if ran.status != 0 or not found:
        raise QuantizationError(
            f"llama-quantize does not tell what it would make of it ({ran.failure})",
            subject=source.path,
        )
    return found


def parse_dry_run(lines: Iterable[str]) -> dict[str, str]:
    """Tensor to ggml type, from what ``llama-quantize --dry-run`` prints."""
    found = (_LINE.search(line) for line in lines)
    return {line["tensor"]: line["type"].upper() for line in found if line}
