"""The 16-bit file that every variant is made from: converted, loaded once, compared.

Compared with the folder are the tokens that both tokenizers make, and the logits of a few prompts.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import require_space
from edgequant.core.errors import ConversionError
from edgequant.core.progress import say, task
from edgequant.core.warm import WarmPython, warm_python
from edgequant.models.checks.logits import CHECK_VERSION as LOGITS_CHECK_VERSION
from edgequant.models.checks.logits import check_logits
from edgequant.models.checks.tokenizer_folder import loadable, readable_name
from edgequant.models.folder import ModelFolder, hash_inputs
from edgequant.models.formats.tensors import reading_through
from edgequant.models.load_check import CHECK_VERSION as LOAD_CHECK_VERSION
from edgequant.models.load_check import check_loads, not_finite
from edgequant.models.steps.convert import (
    OutputType,
    check_architecture,
    check_converter,
    convert,
    resolve_output_type,
)
from edgequant.models.steps.step import SPARE_BYTES, STAGE, HostBuild, header_facts
from edgequant.models.tokenizer_check import CHECK_VERSION, check_tokenizer
from edgequant.models.vocabulary import LIBRARY_NAME

# Raise it when a change here makes other files from the same inputs.
RECIPE = 2

IMPORTED = (
    *("numpy", "torch", "safetensors.torch", "sentencepiece", "google.protobuf"),
    *("transformers", "transformers.models.auto", "transformers.models.llama.modeling_llama"),
    *("edgequant.models.vocabulary", "edgequant.core.process"),
)
"""What the programs of a conversion spend most of their time with, before they do anything."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def converting_python() -> AbstractContextManager[WarmPython]:
    """What runs the programs of all conversions inside the block."""
    return warm_python(IMPORTED, OFFLINE)


def base_recipe(folder: ModelFolder, output_type: OutputType, host: HostBuild) -> Recipe:
    """All that decides what the 16-bit file is; every file that the conversion reads is hashed.

    Raises:
        ModelFolderError: the folder has no weights, or an architecture that nobody converts.
    """
    check_architecture(folder, host.source.folder)
    inputs = {f"folder/{name}": digest for name, digest in hash_inputs(folder).items()}
    parameters: dict[str, object] = {
        "step": "convert",
        "recipe": RECIPE,
        "name": folder.name,
        # The converter works some of the metadata out from it.
        "folder_name": readable_name(folder),
        "output_type": resolve_output_type(output_type, folder.dtype),
        "llama_cpp_commit": host.llama_cpp_commit,
        "load_check": LOAD_CHECK_VERSION,
        "tokenizer_check": CHECK_VERSION,
        "logits_check": LOGITS_CHECK_VERSION,
    }
    return Recipe(STAGE, inputs, parameters, host.llama_cpp_commit)


def make_base(
    folder: ModelFolder, output_type: OutputType, host: HostBuild, draft: ArtefactDraft
) -> None:
    """Convert, and see that what came out is the model.

    Raises:
        ToolMissingError: the converter's Python packages are missing.
        ConversionError: the converter failed, or llama.cpp cannot use what it wrote, or computes
            something else with it.
        TokenizerMismatchError: the GGUF's tokenizer is not the folder's.
        DiskFullError: too little space.
    """
    kind = resolve_output_type(output_type, folder.dtype)
    converter = check_converter(host.source.folder)
    needed = folder.parameter_count * 2 + SPARE_BYTES
    require_space(draft.folder, needed, f"converting {folder.name}")
    out = draft.folder / f"{folder.name}-{kind.upper()}.gguf"
    with converting_python(), loadable(folder) as (readable, mended):
        for change in mended:
            say(f"warning: {change}: the installed transformers cannot load it as it is")
        with (
            draft.timed("convert"),
            task(f"Converting {folder.name} to {kind}", total=100) as shown,
        ):
            info, warnings = convert(readable, converter, kind, out, log=draft.log, shown=shown)
        for warning in warnings:
            say(f"warning: the converter says: {warning}")
        # Before it is hashed: a later change would be one of the file.
        out.chmod(0o444)
        checks = _check(folder, readable, out, kind, host.binary(LIBRARY_NAME), draft)
    draft.manifest.details |= {
        **header_facts(info),
        **checks,
        "converter_warnings": list(warnings),
        "mended_settings": list(mended),
    }


def _check(
    folder: ModelFolder,
    readable: ModelFolder,
    out: Path,
    kind: Literal["f16", "bf16"],
    library: Path,
    draft: ArtefactDraft,
) -> dict[str, object]:
    """Hash the file and look at every weight beside the other checks, which read little of it."""
    with reading_through(out) as first_not_finite:
        try:
            with draft.timed("load_check"):
                loaded = check_loads(out, library)
            with draft.timed("tokenizer_check"):
                report = check_tokenizer(readable.path, out, library)
            with draft.timed("logits_check"):
                logits = check_logits(readable.path, out, library, kind, folder.parameter_count)
        except ConversionError as error:
            # NaN explains all else; one token does not reach every weight.
            if (tensor := first_not_finite()) is not None:
                raise not_finite(out, tensor) from error
            raise
        with draft.timed("read_through"):
            tensor = first_not_finite()
    if tensor is not None:
        raise not_finite(out, tensor)
    return {
        "load_check": {**loaded, "finite_weights": True},
        "tokenizer_check": report.as_dict(),
        "logits_check": logits,
    }
