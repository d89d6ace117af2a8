"""Turn a checked Hugging Face folder into one 16-bit GGUF with the pinned tree's converter."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import sys
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from edgequant.core.disk import filled_up, no_space_left
from edgequant.core.errors import (
    ConversionError,
    ModelFolderError,
    ToolMissingError,
)
from edgequant.core.process import run_logged
from edgequant.core.progress import Task
from edgequant.core.warm import warmed
from edgequant.models.folder import ModelFolder
from edgequant.models.formats.gguf import GgufInfo, read_gguf

OutputType = Literal["auto", "f16", "bf16"]
CONVERTER = "convert_hf_to_gguf.py"
CONVERTER_PACKAGES = ("torch", "transformers", "sentencepiece", "safetensors", "google.protobuf")
INSTALL_COMMAND = f"{sys.executable} -m pip install 'edgequant[convert]'"
KEPT_LINES = 200
KEPT_WARNINGS = 20

_UNKNOWN_PRE_TOKENIZER = "BPE pre-tokenizer was not recognized"
_UNKNOWN_TOKENIZER_CLASS = re.compile(r"Tokenizer class (\w+) does not exist")
_PRE_TOKENIZER_HASH = re.compile(r"chkhsh:\s+([0-9a-f]{64})")
_WARNING = re.compile(r"WARNING:[\w.-]+:\s*(?P<text>.*\w.*)")
_PERCENT = re.compile(r"Writing:\s+(\d+)%")


class Converted(NamedTuple):
    """What the converter wrote, and what it warned of, each warning once."""

    info: GgufInfo
    warnings: tuple[str, ...]


def resolve_output_type(wanted: OutputType, dtype: str) -> Literal["f16", "bf16"]:
    """``auto`` keeps bfloat16 as it is; everything else becomes f16."""
    if wanted != "auto":
        return wanted
    return "bf16" if dtype == "bfloat16" else "f16"


def check_converter(source: Path) -> Path:
    """The converter of a llama.cpp tree, with what it imports installed.

    Raises:
        ConversionError: the tree has no converter.
        ToolMissingError: a Python package is missing.
    """
    converter = source / CONVERTER
    if not converter.is_file():
        raise ConversionError(f"this llama.cpp tree has no {CONVERTER}", subject=source)
    missing = [name for name in CONVERTER_PACKAGES if not _installed(name)]
    if missing:
        raise ToolMissingError(
            f"the converter needs {', '.join(missing)}, not installed in {sys.prefix}",
            next_step=INSTALL_COMMAND,
        )
    return converter


def supported_architectures(source: Path) -> frozenset[str] | None:
    """The text models the tree's converter knows; None where an older tree has no such list."""
    try:
        module = ast.parse((source / "conversion" / "__init__.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return None
    for statement in module.body:
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and statement.target.id == "TEXT_MODEL_MAP"
            and isinstance(statement.value, ast.Dict)
        ):
            keys = statement.value.keys
            return frozenset(str(key.value) for key in keys if isinstance(key, ast.Constant))
    return None


def check_architecture(folder: ModelFolder, source: Path) -> None:
    """Refuse a model that the converter does not know.

    Raises:
        ModelFolderError: naming the architecture and its nearest known relatives.
    """
    known = supported_architectures(source)
    if known is None or folder.architecture in known:
        return
    import difflib

    close = difflib.get_close_matches(folder.architecture, known, n=3)
    hint = f"; it knows {', '.join(close)}" if close else ""
    raise ModelFolderError(
        f"architecture {folder.architecture} is not supported by this llama.cpp's converter{hint}",
        subject=folder.path / "config.json",
        next_step="choose another model, or build with a llama.cpp that supports it (--source)",
    )


def convert(
    folder: ModelFolder,
    converter: Path,
    output_type: Literal["f16", "bf16"],
    out: Path,
    *,
    log: Path,
    shown: Task | None = None,
) -> Converted:
    """Run the converter; ``out`` is whole when this returns.

    Args:
        folder: the checked model folder.
        converter: path of the tree's ``convert_hf_to_gguf.py``.
        output_type: type of the weights (norms stay f32).
        out: file to write.
        log: file that keeps the converter's output.
        shown: progress, in percent.

    Raises:
        ConversionError: the converter failed; the message has its last lines.
        DiskFullError: the disk filled up.
        GgufError: the converter wrote a damaged file.
    """

    lines: deque[str] = deque(maxlen=KEPT_LINES)
    warnings: dict[str, None] = {}

    def on_line(line: str) -> None:
        lines.append(line)
        if (said := _WARNING.match(line)) and len(warnings) < KEPT_WARNINGS:
            warnings[said["text"].strip()] = None
        if shown is not None and (found := _PERCENT.search(line)):
            shown.update(float(found[1]))

    try:
        run_logged(
            warmed(
                [
                    *(sys.executable, converter, folder.path),
                    *("--outfile", out),
                    *("--outtype", output_type),
                    *("--model-name", folder.name),
                ]
            ),
            log=log,
            error=ConversionError,
            what=f"converting {folder.name} to GGUF",
            env=converter_environment(converter.parent),
            on_line=on_line,
        )
    except ConversionError as error:
        if filled_up(error, out.parent):
            raise no_space_left(out.parent, "converting") from error
        raise explained(error, lines, folder.path) from error
    return Converted(read_gguf(out), tuple(warnings))


def explained(error: ConversionError, lines: Iterable[str], folder: Path) -> ConversionError:
    """The error in one clear message, where the converter's lines have a known reason."""
    text = "\n".join(lines)
    if _UNKNOWN_PRE_TOKENIZER in text:
        found = _PRE_TOKENIZER_HASH.search(text)
        return ConversionError(
            "this llama.cpp's converter does not know how the model's tokenizer cuts text into "
            f"words (pre-tokenizer {found[1][:16] if found else 'unknown'}...)",
            subject=folder / "tokenizer.json",
            next_step="build with a newer llama.cpp (edgequant toolchain update, or --source); if "
            "the model was fine-tuned, take the tokenizer.json of the model it came from",
        )
    if found := _UNKNOWN_TOKENIZER_CLASS.search(text):
        return ConversionError(
            f"the installed transformers has no tokenizer class {found[1]}",
            subject=folder / "tokenizer_config.json",
            next_step='give the folder a tokenizer.json and "tokenizer_class": '
            '"PreTrainedTokenizerFast"',
        )
    return error


def converter_environment(source: Path) -> dict[str, str]:
    """The converter's environment: the tree's own gguf-py first, and no network."""
    environment = dict(os.environ)
    environment.pop("NO_LOCAL_GGUF", None)
    path = [str(source / "gguf-py"), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(part for part in path if part)
    # The tree is known by its hash: nothing may be written into it.
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    environment["HF_HUB_OFFLINE"] = "1"
    environment["TOKENIZERS_PARALLELISM"] = "false"
    return environment


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
