"""From a Hugging Face folder to quantized GGUF files: each type is an artefact of its own.

So a type added later does not make the others again, and an interrupted run goes on with the
type it was at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.errors import (
    ArtefactError,
    DiskFullError,
    EdgequantError,
    GgufError,
    QuantizationError,
)
from edgequant.core.process import run_logged
from edgequant.core.progress import Task, say, task
from edgequant.models import load_check
from edgequant.models.contents import Contents, content_notes, marked, read_contents, same_tensors
from edgequant.models.folder import ModelFolder, check_model_folder, hash_inputs
from edgequant.models.formats.gguf import GgufInfo, read_gguf
from edgequant.models.steps.convert import (
    OutputType,
    check_architecture,
    check_converter,
    check_space,
    convert,
    disk_full,
    resolve_output_type,
)
from edgequant.models.tokenizer_check import CHECK_VERSION, check_tokenizer
from edgequant.models.vocabulary import LIBRARY_NAME

STAGE = "models"
# Raise it when a change here makes other files from the same inputs.
RECIPE = 2

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

_PROGRESS = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")
_FALLBACK = re.compile(
    r"warning:\s+(?P<tensor>\S+)\s+- ncols\s+(?P<columns>\d+) not divisible by\s+(?P<block>\d+) "
    r"\(required for type\s+(?P<wanted>\w+)\).*?-> falling back to\s+(?P<used>\w+)"
)
_NOT_FINITE = re.compile(r"found (?:nan|inf) value|quantized data validation failed", re.I)
_NEEDS_IMATRIX = re.compile(r"importance matrix")


class HostBuild(Protocol):
    """What is needed of the host's Build (``edgequant.build.build.Build``)."""

    def binary(self, name: str) -> Path: ...

    @property
    def source(self) -> HostSource: ...

    @property
    def llama_cpp_commit(self) -> str: ...


class HostSource(Protocol):
    """The llama.cpp tree of a Build."""

    @property
    def folder(self) -> Path: ...


@dataclass(frozen=True)
class Fallback:
    """A tensor that llama-quantize gave another type, as its rows are not whole blocks."""

    tensor: str
    columns: int
    block: int
    wanted: str
    used: str

    def as_dict(self) -> dict[str, object]:
        return {
            "tensor": self.tensor,
            "columns": self.columns,
            "block": self.block,
            "wanted": self.wanted,
            "used": self.used,
        }


@dataclass(frozen=True)
class ModelRow:
    """One line of the table of models."""

    quantization: str
    path: Path
    bytes: int
    bits_per_weight: float
    sha256: str
    fallback_tensors: int
    """Tensors that fell back to another type; they make the file larger than its name says."""
    contents: Contents
    """What the file really holds."""
    same_as: str | None
    """The quantization before it that has the very same tensors."""

    @property
    def marked_name(self) -> str:
        """The name, and what it hides: ``Q3_K_S = Q2_K``, ``Q2_K (name only)``."""
        return marked(self.quantization, self.contents.holds_named_type, self.same_as)

    def as_dict(self) -> dict[str, object]:
        return {
            "quantization": self.quantization,
            "path": str(self.path),
            "bytes": self.bytes,
            "bits_per_weight": round(self.bits_per_weight, 4),
            "sha256": self.sha256,
            "fallback_tensors": self.fallback_tensors,
            "tensors": dict(self.contents.tensors),
            "weight_share": self.contents.rounded_share,
            "holds_named_type": self.contents.holds_named_type,
            "same_as": self.same_as,
        }


class Models:
    """One model in several quantizations, each in an artefact of its own."""

    def __init__(self, name: str, base: Artefact, artefacts: Mapping[str, Artefact]) -> None:
        self.name = name
        self.base = base
        """The 16-bit file that all others are made from."""
        self.artefacts = dict(artefacts)

    @property
    def types(self) -> tuple[str, ...]:
        """The quantizations, in the order asked for."""
        return tuple(self.artefacts)

    def artefact(self, quantization: str) -> Artefact:
        """The artefact of one quantization.

        Raises:
            QuantizationError: it was not made.
        """
        name = canonical_type(quantization)
        if name not in self.artefacts:
            raise QuantizationError(
                f"{self.name} was not quantized to {name}", next_step=f"add --type {name}"
            )
        return self.artefacts[name]

    def gguf(self, quantization: str) -> Path:
        """Path of one quantization's file."""
        return _gguf_of(self.artefact(quantization))

    def sha256(self, quantization: str) -> str:
        """SHA-256 of one quantization's file."""
        artefact = self.artefact(quantization)
        return artefact.manifest.files[_gguf_of(artefact).name].sha256

    def info(self, quantization: str) -> GgufInfo:
        """Header of one quantization's file."""
        return read_gguf(self.gguf(quantization))

    @property
    def base_gguf(self) -> Path:
        """Path of the 16-bit file."""
        return _gguf_of(self.base)

    @property
    def tokenizer_check(self) -> object:
        """What the tokenizer comparison found, as plain values."""
        return self.base.manifest.details.get("tokenizer_check")

    def table(self) -> list[ModelRow]:
        """Bytes, bits per weight, contents and SHA-256 of every quantization."""
        infos = {name: self.info(name) for name in self.types}
        same = same_tensors(infos)
        return [self._row(name, info, same.get(name)) for name, info in infos.items()]

    def _row(self, quantization: str, info: GgufInfo, same_as: str | None) -> ModelRow:
        fallback = self.artefact(quantization).manifest.details.get("fallback")
        return ModelRow(
            quantization=quantization,
            path=info.path,
            bytes=info.file_bytes,
            bits_per_weight=info.bits_per_weight,
            sha256=self.sha256(quantization),
            fallback_tensors=len(fallback) if isinstance(fallback, list) else 0,
            contents=read_contents(info, quantization),
            same_as=same_as,
        )


def notes_of(rows: Sequence[ModelRow]) -> list[str]:
    """What a reader of the quantizations' names would take wrongly."""
    return content_notes(
        {row.quantization: row.contents for row in rows},
        {row.quantization: row.same_as for row in rows if row.same_as is not None},
        {row.quantization: row.fallback_tensors for row in rows},
    )


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


def canonical_types(names: Sequence[str]) -> tuple[str, ...]:
    """Full names of several types, each once, in the order given.

    Raises:
        QuantizationError: one of them is unknown, or there are none.
    """
    if not names:
        raise QuantizationError("no quantization type given", next_step="give --type Q4_K_M")
    return tuple(dict.fromkeys(canonical_type(name) for name in names))


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


def quantize(
    model_folder: Path,
    types: Sequence[str],
    *,
    host: HostBuild,
    output_type: OutputType = "auto",
    store: Store | None = None,
) -> Models:
    """Convert a Hugging Face folder and quantize it to every type asked for.

    Args:
        model_folder: folder with config.json, weights and tokenizer.
        types: names as llama-quantize knows them; F16 and BF16 stand for the unquantized model.
        host: build of this machine's tools, of the same tree as the converter.
        output_type: type of the unquantized file; "auto" keeps bfloat16 and makes f16 of others.
        store: where artefacts are kept, by default the cache.

    Raises:
        ModelFolderError: the folder is missing, incomplete or of an unsupported kind.
        ToolMissingError: the converter's Python packages are missing.
        QuantizationError: an unknown type, or llama-quantize failed.
        ConversionError: the converter failed.
        TokenizerMismatchError: the GGUF's tokenizer is not the folder's.
        DiskFullError: too little space.
    """
    wanted = canonical_types(types)
    folder = check_model_folder(model_folder)
    check_architecture(folder, host.source.folder)
    if not folder.has_chat_template:
        say(
            f"warning: {folder.name} has no chat template: its files can be asked only with "
            'wrapper = "chatml", the study\'s own form'
        )
    store = store if store is not None else Store()
    base = _base(folder, resolve_output_type(output_type, folder.dtype), host, store)
    made = {name: _quantized(folder.name, base, name, host, store) for name in wanted}
    models = Models(folder.name, base, made)
    for note in notes_of(models.table()):
        say(f"warning: {note}")
    return models


def _base(folder: ModelFolder, output_type: str, host: HostBuild, store: Store) -> Artefact:
    inputs = {f"folder/{name}": digest for name, digest in hash_inputs(folder).items()}
    parameters: dict[str, object] = {
        "step": "convert",
        "recipe": RECIPE,
        "name": folder.name,
        # The converter works some of the metadata out from it.
        "folder_name": folder.path.name,
        "output_type": output_type,
        "llama_cpp_commit": host.llama_cpp_commit,
        "load_check": load_check.CHECK_VERSION,
        "tokenizer_check": CHECK_VERSION,
    }

    def make(draft: ArtefactDraft) -> None:
        converter = check_converter(host.source.folder)
        check_space(store.root, folder.parameter_count * 2, f"converting {folder.name}")
        out = draft.folder / f"{folder.name}-{output_type.upper()}.gguf"
        with (
            draft.timed("convert"),
            task(f"Converting {folder.name} to {output_type}", total=100) as shown,
        ):
            info = convert(
                folder,
                converter,
                "bf16" if output_type == "bf16" else "f16",
                out,
                log=draft.log,
                shown=shown,
            )
        with draft.timed("load_check"):
            loaded = load_check.check_loads(out, host.binary(LIBRARY_NAME))
        with draft.timed("tokenizer_check"):
            report = check_tokenizer(folder.path, out, host.binary(LIBRARY_NAME))
        draft.manifest.details |= {
            **_facts(info),
            "load_check": loaded,
            "tokenizer_check": report.as_dict(),
        }
        out.chmod(0o444)

    recipe = Recipe(STAGE, inputs, parameters, host.llama_cpp_commit)
    return store.get_or_make(recipe, make)


def _quantized(
    name: str, base: Artefact, quantization: str, host: HostBuild, store: Store
) -> Artefact:
    source = _gguf_of(base)
    if base.manifest.parameters.get("output_type") == quantization.lower():
        return base
    inputs = {"gguf": base.manifest.files[source.name].sha256}
    parameters: dict[str, object] = {
        "step": "quantize",
        "recipe": RECIPE,
        "name": name,
        "type": quantization,
        "llama_cpp_commit": host.llama_cpp_commit,
    }

    def make(draft: ArtefactDraft) -> None:
        before = read_gguf(source)
        check_space(store.root, expected_bytes(before, quantization), f"quantizing {name}")
        out = draft.folder / f"{name}-{quantization}.gguf"
        lines: list[str] = []
        with (
            draft.timed("quantize"),
            task(f"Quantizing {name} to {quantization}", total=len(before.tensors)) as shown,
        ):
            _run_quantize(
                host.binary("llama-quantize"), source, out, quantization, draft.log, lines, shown
            )
        after = read_gguf(out)
        _check_same_model(before, after)
        fallbacks = parse_fallbacks(lines)
        draft.manifest.details |= {
            **_facts(after),
            "fallback": [fallback.as_dict() for fallback in fallbacks],
        }
        out.chmod(0o444)

    recipe = Recipe(STAGE, inputs, parameters, host.llama_cpp_commit)
    return store.get_or_make(recipe, make)


def expected_bytes(base: GgufInfo, quantization: str) -> int:
    """An upper estimate of a quantized file's size, for the check of the disk."""
    bits = {"F32": 32.0, "F16": 16.0, "BF16": 16.0}.get(quantization)
    if bits is None:
        digit = re.search(r"\d", quantization)
        bits = (int(digit[0]) if digit else 16) + 1.5
    # Small models keep a larger share in embeddings of more bits.
    return int(base.parameter_count * bits / 8 * 1.25) + (base.data_offset or 0)


def _run_quantize(
    program: Path,
    source: Path,
    out: Path,
    quantization: str,
    log: Path,
    lines: list[str],
    shown: Task,
) -> None:
    def on_line(line: str) -> None:
        lines.append(line)
        if found := _PROGRESS.search(line):
            shown.update(int(found[1]), total=int(found[2]))

    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_")}
    try:
        run_logged(
            [program, source, out, quantization, str(os.cpu_count() or 1)],
            log=log,
            error=QuantizationError,
            what=f"quantizing to {quantization}",
            env=environment,
            on_line=on_line,
        )
    except QuantizationError as error:
        raise _explained(error, quantization, out.parent, lines) from error


def _explained(
    error: QuantizationError, quantization: str, where: Path, lines: Sequence[str]
) -> EdgequantError:
    if any(_NEEDS_IMATRIX.search(line) for line in lines):
        return QuantizationError(
            f"{quantization} needs an importance matrix, which edgequant does not make",
            next_step="choose a type that needs none, such as Q2_K or IQ4_XS",
        )
    if any(_NOT_FINITE.search(line) for line in lines):
        return QuantizationError(
            f"the 16-bit model has weights that are no numbers: {quantization} cannot be made",
            subject=where,
            next_step="look for NaN and infinite values in the model's weights; try "
            "--output-type bf16 where f16 overflows",
        )
    if disk_full(error, where):
        return DiskFullError(
            f"no space left while quantizing to {quantization}",
            subject=where,
            next_step="free some space, or point EDGEQUANT_CACHE at another disk",
        )
    return error


def _check_same_model(before: GgufInfo, after: GgufInfo) -> None:
    """A quantized file has the very tensors of its source."""
    shapes = [{t.name: t.shape for t in info.tensors} for info in (before, after)]
    if shapes[0] != shapes[1]:
        raise GgufError("llama-quantize wrote other tensors than it read", subject=after.path)


def _facts(info: GgufInfo) -> dict[str, object]:
    return {
        "architecture": info.architecture,
        "parameter_count": info.parameter_count,
        "bits_per_weight": round(info.bits_per_weight, 4),
        "tensors": len(info.tensors),
    }


def _gguf_of(artefact: Artefact) -> Path:
    names = [name for name in artefact.manifest.files if name.endswith(".gguf")]
    if len(names) != 1:
        raise ArtefactError("has not exactly one GGUF file", subject=artefact.folder)
    return artefact.file(names[0])
