"""llama-quantize as a step: every weight into one of ggml's types."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import filled_up, no_space_left, require_space
from edgequant.core.errors import EdgequantError, GgufError, QuantizationError
from edgequant.core.process import run_logged
from edgequant.core.progress import Task, task
from edgequant.models.formats.gguf import GgufInfo, read_gguf
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.plain_types import plain_types
from edgequant.models.steps.step import SPARE_BYTES, STAGE, HostBuild, StepContext, header_facts

# Raise it when a change here makes other files from the same inputs.
RECIPE = 2

_PROGRESS = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
_FALLBACK = re.compile(
    r"warning:\s+(?P<tensor>\S+)\s+- ncols\s+(?P<columns>\d+) not divisible by\s+(?P<block>\d+) "
    r"\(required for type\s+(?P<wanted>\w+)\).*?-> falling back to\s+(?P<used>\w+)"
)
_NOT_FINITE = re.compile(
    r"tensor '(?P<tensor>[^']+)' has invalid data|quantized data validation failed"
)
_NEEDS_IMATRIX = re.compile(r"importance matrix")


@dataclass(frozen=True)
class Fallback:
    """A tensor that llama-quantize gave another type, as its rows are not whole blocks."""

    tensor: str
    columns: int
    block: int
    wanted: str
    used: str


@dataclass(frozen=True)
class Quantize:
    """The step that a type's name stands for."""

    type: str

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe | None:
        """See :meth:`edgequant.models.steps.step.Step.recipe`."""
        if source.header.file_type == self.type:
            return None
        parameters: dict[str, object] = {
            "step": "quantize",
            "recipe": RECIPE,
            "name": context.model,
            "type": self.type,
            "llama_cpp_commit": context.host.llama_cpp_commit,
        }
        return Recipe(STAGE, source.inputs, parameters, context.host.llama_cpp_commit)

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """See :meth:`edgequant.models.steps.step.Step.make`.

        Raises:
            QuantizationError: llama-quantize failed.
            GgufError: it wrote a damaged file, or another model.
            DiskFullError: too little space.
        """
        model = context.model
        needed = expected_bytes(source.header, self.type)
        require_space(draft.folder, needed + SPARE_BYTES, f"quantizing {model}")
        out = draft.folder / f"{model}-{self.type}.gguf"
        lines: list[str] = []
        tensors = len(source.header.tensors)
        with (
            draft.timed("quantize"),
            task(f"Quantizing {model} to {self.type}", total=tensors) as shown,
        ):
            run_quantize(context.host, source, out, self.type, draft.log, lines, shown)
        after = read_gguf(out)
        _check_same_model(source.header, after)
        draft.manifest.details |= {
            **header_facts(after),
            "fallback": [asdict(fallback) for fallback in parse_fallbacks(lines)],
        }
        out.chmod(0o444)

    def stored_types(self, source: ModelFile, context: StepContext) -> dict[str, str]:
        """See :func:`edgequant.models.steps.to_come.stored_types`."""
        return plain_types(source, self.type, context.host)


def parse_fallbacks(lines: Sequence[str]) -> list[Fallback]:
    """The tensors that llama-quantize says it gave another type."""
    # The warning is written in pieces, and other lines of the log may get in between.
    text = " ".join(lines)
    return [
        Fallback(
            tensor=found["tensor"],
            columns=int(found["columns"]),
            block=int(found["block"]),
            wanted=found["wanted"],
            used=found["used"],
        )
        for found in _FALLBACK.finditer(text)
    ]


def expected_bytes(base: GgufInfo, quantization: str) -> int:
    """An upper estimate of a quantized file's size, for the check of the disk."""
    # Small models keep a larger share in embeddings of more bits.
    size = quantized_bytes(base.parameter_count, bits_of(quantization))
    return int(size * 1.25) + (base.data_offset or 0)


def bits_of(quantization: str) -> float:
    """About how many bits a weight takes, rather more than fewer."""
    bits = {"F32": 32.0, "F16": 16.0, "BF16": 16.0}.get(quantization)
    if bits is not None:
        return bits
    digit = re.search(r"\d", quantization)
    return (int(digit[0]) if digit else 16) + 1.5


def quantized_bytes(parameter_count: int, bits: float) -> int:
    """Bytes of so many weights of so many bits."""
    return int(parameter_count * bits / 8)


def run_quantize(
    host: HostBuild,
    source: ModelFile,
    out: Path,
    quantization: str,
    log: Path,
    lines: list[str],
    shown: Task,
    options: Sequence[str | Path] = (),
) -> None:
    """Run llama-quantize, with the file's importance matrix where it has one.

    Args:
        host: build of this machine's tools.
        source: what is quantized.
        out: the file to write.
        quantization: a type of llama-quantize's.
        log: file for its output.
        lines: gets the lines of its output.
        shown: progress, in tensors.
        options: more of its own.

    Raises:
        QuantizationError: it failed; the message says why.
        DiskFullError: too little space.
    """
    given, where = list(options), None
    if source.importance is not None:
        # Its path is written into the file: a bare name is the same everywhere.
        given += ["--imatrix", source.importance.path.name]
        where = source.importance.path.parent

    def on_line(line: str) -> None:
        lines.append(line)
        if found := _PROGRESS.search(line):
            shown.update(int(found[1]), total=int(found[2]))

    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_")}
    try:
        run_logged(
            [
                *(host.binary("llama-quantize"), *given),
                *(source.path, out, quantization, str(os.cpu_count() or 1)),
            ],
            log=log,
            error=QuantizationError,
            what=f"quantizing to {quantization}",
            env=environment,
            cwd=where,
            on_line=on_line,
        )
    except QuantizationError as error:
        raise _explained(error, quantization, out.parent, lines) from error


def _explained(
    error: QuantizationError, quantization: str, where: Path, lines: Sequence[str]
) -> EdgequantError:
    if any(_NEEDS_IMATRIX.search(line) for line in lines):
        return QuantizationError(
            f"{quantization} needs an importance matrix",
            next_step=f'put the step imatrix before it: steps = ["imatrix", "{quantization}"], and '
            "name texts or questions to calibrate on",
        )
    if found := _NOT_FINITE.search("\n".join(lines)):
        return QuantizationError(
            f"{found['tensor'] or 'a tensor'} holds NaN or infinite values: {quantization} cannot "
            "be made",
            subject=error.subject,
            next_step="look for NaN and infinite values in the model's weights; try "
            "--output-type bf16 where f16 overflows",
        )
    if filled_up(error, where):
        return no_space_left(where, f"quantizing to {quantization}")
    return error


def _check_same_model(before: GgufInfo, after: GgufInfo) -> None:
    """A quantized file has the very tensors of its source."""
    shapes = [{t.name: t.shape for t in info.tensors} for info in (before, after)]
    if shapes[0] != shapes[1]:
        raise GgufError("llama-quantize wrote other tensors than it read", subject=after.path)
