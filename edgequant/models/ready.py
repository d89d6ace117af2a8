"""GGUF files that are there already, taken in as the variants of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgequant.core.artefact import Store
from edgequant.core.errors import GgufError, QuantizationError
from edgequant.core.progress import say
from edgequant.models.formats.gguf import GgufInfo
from edgequant.models.model_file import ModelFile
from edgequant.models.model_set import ModelSet
from edgequant.models.steps.merge import find_parts
from edgequant.models.variant import NAME


def take_in(files: Mapping[str, Path], *, name: str, store: Store | None = None) -> ModelSet:
    """Ready files as a model's variants; a split one is merged, the others are used in place.

    Args:
        files: variant to its GGUF, or to any part of a split one.
        name: what the model is called.
        store: where merged files are kept, by default the cache.

    Raises:
        QuantizationError: no files, or a variant's name is none.
        GgufError: a file is missing, damaged, no whole model, or has another vocabulary than the
            first.
        DiskFullError: too little space for a merged file.
    """
    if not files:
        raise QuantizationError("no files given", next_step='files = {Q2_K = "model-Q2_K.gguf"}')
    for variant in files:
        if not NAME.fullmatch(variant):
            raise QuantizationError(
                f"{variant!r} is no name of a variant",
                next_step="use at most 64 letters, digits, '.', '_', '+' and '-'",
            )
    store = store if store is not None else Store()
    taken = {variant: _taken(variant, path, store) for variant, path in files.items()}
    _check_one_model(list(taken.values()))
    models = ModelSet(name, taken)
    for note in models.notes:
        say(f"warning: {note}")
    return models


def _taken(variant: str, path: Path, store: Store) -> ModelFile:
    split = find_parts(path)
    if split is None:
        # A hub's cache links to blobs without a suffix: the file keeps the name it was given by.
        file = ModelFile.of_path(variant, path.parent.resolve() / path.name)
    else:
        made = store.get_or_make(split.recipe(), split.make)
        file = ModelFile.of_artefact(variant, made)
    check_whole_model(file.header)
    return file


def check_whole_model(header: GgufInfo) -> None:
    """Refuse a GGUF that no llama.cpp program can answer with.

    Raises:
        GgufError: it says what it is instead.
    """
    kind = header.metadata.get("general.type", "model")
    if kind != "model":
        raise GgufError(
            f"is of type {kind!r}, not a model",
            subject=header.path,
            next_step="give the model it belongs to",
        )
    if not header.tensors:
        raise GgufError("has no tensors: it is a vocabulary only", subject=header.path)
    if "tokenizer.ggml.model" not in header.metadata:
        raise GgufError(
            "has no tokenizer",
            subject=header.path,
            next_step="convert the model again from a folder that has its tokenizer",
        )


def _check_one_model(files: list[ModelFile]) -> None:
    """Variants answer the same questions: they have one architecture, depth and vocabulary."""

    def identity(file: ModelFile) -> tuple[object, ...]:
        header = file.header
        blocks = header.metadata.get(f"{header.architecture}.block_count")
        return header.architecture, blocks, header.array_lengths.get("tokenizer.ggml.tokens")

    first = files[0]
    for file in files[1:]:
        if identity(file) != identity(first):
            raise GgufError(
                f"is not the same model as {first.path.name}: (architecture, blocks, tokens) are "
                f"{identity(file)}, there {identity(first)}",
                subject=file.path,
                next_step="compare variants of one model",
            )
