"""From a Hugging Face folder to the files of its variants: each step is an artefact of its own.

So a variant added later does not make the others again, and an interrupted run goes on with the
step it was at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from edgequant.core.artefact import Artefact, Recipe, Store
from edgequant.core.disk import free_bytes_below, require_room
from edgequant.core.errors import QuantizationError
from edgequant.core.hashing import is_remembered
from edgequant.core.progress import say
from edgequant.models.calibration import Calibration
from edgequant.models.folder import ModelFolder
from edgequant.models.model_file import ModelFile
from edgequant.models.model_set import ModelSet
from edgequant.models.pull.pull import local_or_pulled
from edgequant.models.pull.space import BYTES_OF_A_WEIGHT, Conversion
from edgequant.models.steps.base import base_recipe, converting_python, make_base
from edgequant.models.steps.convert import OutputType
from edgequant.models.steps.registry import step_named
from edgequant.models.steps.step import HostBuild, Step, StepContext
from edgequant.models.variant import Variant


def make_models(
    model: Path | str,
    variants: Sequence[Variant],
    *,
    host: HostBuild,
    output_type: OutputType = "auto",
    calibration: Calibration | None = None,
    store: Store | None = None,
) -> ModelSet:
    """Convert a Hugging Face model and make every variant asked for.

    Args:
        model: folder with config.json, weights and tokenizer, used in place; or an id
            (``org/name[@revision]``), which is pulled from the hub unless it was before.
        variants: what is made of it.
        host: build of this machine's tools, of the same tree as the converter.
        output_type: type of the unquantized file; "auto" keeps bfloat16 and makes f16 of others.
        calibration: what steps such as ``imatrix`` look at the model's numbers on.
        store: where artefacts are kept, by default the cache.

    Raises:
        ModelFolderError: the folder is missing, incomplete or of an unsupported kind.
        HubNotFoundError, HubAccessError, HubUnreachableError, HubAnswerError: it cannot be pulled.
        ToolMissingError: the converter's Python packages are missing.
        QuantizationError: llama-quantize failed, or a file is larger than its variant allows.
        ConversionError: the converter failed, or llama.cpp cannot use what it wrote.
        TokenizerMismatchError: the GGUF's tokenizer is not the folder's.
        DiskFullError: too little space.
    """
    store = store if store is not None else Store()
    folder = local_or_pulled(model, store=store, conversion=Conversion(store.root, variants))
    context = StepContext(folder.name, host, store, calibration)
    with _ready_to_convert(folder):
        recipe = base_recipe(folder, output_type, host)
        _plan_space(folder, variants, recipe, context)
        base = _converted(folder, recipe, output_type, host, store)
    made = [make_variant(variant, base, context) for variant in variants]
    return gather_models(folder.name, made, base)


def gather_models(name: str, files: Sequence[ModelFile], base: ModelFile) -> ModelSet:
    """The variants of a model together; what their names would make one believe is told."""
    models = ModelSet(name, {file.name: file for file in files}, base)
    for note in models.notes:
        say(f"warning: {note}")
    return models


def convert_folder(
    folder: ModelFolder, *, host: HostBuild, output_type: OutputType, store: Store
) -> ModelFile:
    """The 16-bit file of a folder; raises as :func:`make_models`."""
    with _ready_to_convert(folder):
        recipe = base_recipe(folder, output_type, host)
        return _converted(folder, recipe, output_type, host, store)


@contextlib.contextmanager
def _ready_to_convert(folder: ModelFolder) -> Iterator[None]:
    if not folder.has_chat_template:
        say(
            f"warning: {folder.name} has no chat template: its files can be asked only with "
            'wrapper = "chatml", the study\'s own form'
        )
    with converting_python() as python:
        if not all(is_remembered(file) for file in folder.weights):
            # Not seen before: what the converter imports is imported while the weights are hashed.
            python.start()
        yield


def _converted(
    folder: ModelFolder, recipe: Recipe, output_type: OutputType, host: HostBuild, store: Store
) -> ModelFile:
    made = store.get_or_make(recipe, lambda draft: make_base(folder, output_type, host, draft))
    return _base_file(recipe, made)


def _base_file(recipe: Recipe, found: Artefact) -> ModelFile:
    return ModelFile.of_artefact(str(recipe.parameters["output_type"]).upper(), found)


def _plan_space(
    folder: ModelFolder, variants: Sequence[Variant], recipe: Recipe, context: StepContext
) -> None:
    """Say what will be written, and see that there is room for all of it.

    Raises:
        DiskFullError: there is not.
    """
    store = context.store
    found = store.find(recipe)
    base = None if found is None else _base_file(recipe, found)
    missing = [v for v in variants if base is None or find_variant(v, base, context) is None]
    plan = Conversion(store.root, missing)
    base_bytes = folder.parameter_count * BYTES_OF_A_WEIGHT
    needed = plan.disk_bytes(base_bytes) - (base_bytes if base is not None else 0)
    if needed:
        require_room([(store.root, needed)], f"making the files of {folder.name}")
        say(
            f"{folder.name}: about {needed / 1e9:.2f} GB will be written to {store.root} "
            f"(16-bit file, variants), {free_bytes_below(store.root) / 1e9:.1f} GB are free"
        )


def find_base(
    folder: ModelFolder, *, host: HostBuild, output_type: OutputType, store: Store
) -> ModelFile | None:
    """What :func:`convert_folder` would return, where it is there."""
    recipe = base_recipe(folder, output_type, host)
    found = store.find(recipe)
    return None if found is None else _base_file(recipe, found)


def make_variant(variant: Variant, base: ModelFile, context: StepContext) -> ModelFile:
    """One variant's file; raises as :func:`make_models`.

    Args:
        variant: what is made.
        base: the 16-bit file.
        context: of the model; what depends on the variant's place in it is filled in here.
    """
    file = base
    for step, own in _steps(variant, context):
        recipe = step.recipe(file, own)
        if recipe is not None:
            made = own.store.get_or_make(recipe, partial(step.make, file, own))
            file = ModelFile.of_artefact(variant.name, made, file)
    return _within_limit(variant, replace(file, name=variant.name))


def find_variant(variant: Variant, base: ModelFile, context: StepContext) -> ModelFile | None:
    """What :func:`make_variant` would return, where every step of it is there."""
    file = base
    for step, own in _steps(variant, context):
        recipe = step.recipe(file, own)
        if recipe is not None:
            found = own.store.find(recipe)
            if found is None:
                return None
            file = ModelFile.of_artefact(variant.name, found, file)
    return _within_limit(variant, replace(file, name=variant.name))


def _steps(variant: Variant, context: StepContext) -> Iterator[tuple[Step, StepContext]]:
    for place, word in enumerate(variant.steps, start=1):
        rest = variant.steps[place:]
        yield step_named(word), replace(context, rest=rest, max_bytes=variant.max_bytes)


def _within_limit(variant: Variant, file: ModelFile) -> ModelFile:
    if variant.max_bytes is not None and file.bytes > variant.max_bytes:
        raise QuantizationError(
            f"{variant.name} has {file.bytes} bytes, more than its limit of {variant.max_bytes}",
            subject=file.path,
            next_step="raise max_bytes, or choose a smaller type",
        )
    return file
