"""A type for each weight: the smallest divergence in so many bytes, by measured sensitivity."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.disk import require_space
from edgequant.core.errors import QuantizationError
from edgequant.core.files import write_json
from edgequant.core.progress import Task, task
from edgequant.models.formats.gguf import DEFAULT_ALIGNMENT, GgufInfo
from edgequant.models.formats.importance import read_importance
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.formats.rewrite import NewTensor, rewrite
from edgequant.models.formats.types import FLOAT_TYPES, file_type_numbers
from edgequant.models.knapsack import Option, choose
from edgequant.models.model_file import ModelFile
from edgequant.models.probe import Probe
from edgequant.models.sensitivity import (
    Sensitivity,
    Weights,
    bytes_in,
    changes,
    groups_of,
    measure_errors,
    measure_slopes,
    measured_among_others,
    probe_tokens,
)
from edgequant.models.steps.imatrix import Imatrix
from edgequant.models.steps.plain_types import plain_types
from edgequant.models.steps.step import SPARE_BYTES, STAGE, StepContext, header_facts
from edgequant.models.types import canonical_type
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary

# Raise them when a change here makes other files from the same inputs.
RECIPE = 1
PLAN_RECIPE = 1
SENSITIVITY_RECIPE = 2
WORD = "mix"
SENSITIVITY_STAGE = "sensitivity"
VALUES_NAME = "values.json"
PLAN_NAME = "plan.json"
MOST_ROUNDS = 2
MOST_TRIED_PARAMETERS = 50_000_000
"""Plans of larger models are taken as they are: each try quantizes and evaluates the model."""
ADDS_UP = 1.5
"""Slopes are measured anew among the others' errors where all together do so much more harm."""
ANY_TYPE = "Q4_K_M"
"""What tells which weights are quantized at all, where no type is named."""
ADDED_BYTES = 256
"""More than the metadata that a quantized file has and the 16-bit one has not."""


@dataclass(frozen=True)
class Plan:
    """What is stored in which type."""

    types: dict[str, str]
    bytes: int
    """Of these tensors, each with what aligns the next."""
    expected_divergence: float
    """The sum of the weights' own, in nats: what would be, if errors only added up."""
    divergence: float | None = None
    """Measured on the calibration's tokens; None where it was not."""


class Mix:
    """The step ``mix:TYPE`` (as many bytes as the plain type) or ``mix`` (the variant's limit).

    Args:
        type: a type of llama-quantize's.

    Raises:
        QuantizationError: there is no such type.
    """

    stores_weights = True

    def __init__(self, type: str | None = None) -> None:
        self.type = None if type is None else canonical_type(type)

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe | None:
        """See :meth:`edgequant.models.steps.step.Step.recipe`.

        Raises:
            QuantizationError: there is nothing to calibrate on, or neither type nor limit.
        """
        if source.header.file_type not in FLOAT_TYPES:
            # A step before it has stored the weights in the types of the plan.
            return None
        parameters: dict[str, object] = {
            "step": WORD,
            "recipe": RECIPE,
            "name": context.model,
            "plan": self._plan_recipe(source, context).key,
            "llama_cpp_commit": context.host.llama_cpp_commit,
        }
        return Recipe(STAGE, source.inputs, parameters, context.host.llama_cpp_commit)

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """See :meth:`edgequant.models.steps.step.Step.make`.

        Raises:
            QuantizationError: even the smallest types are larger than the limit.
            ToolMissingError, ConversionError: the model cannot be evaluated.
            DiskFullError: too little space.
        """
        plan = self.plan(source, context)
        require_space(draft.folder, plan.bytes + SPARE_BYTES, f"quantizing {context.model}")
        weights = weights_of(source, context)
        out = draft.folder / f"{context.model}-{WORD}.gguf"
        with (
            draft.timed(WORD),
            task(f"Quantizing {context.model} to a mix of types", total=len(plan.types)) as shown,
        ):
            after = write_types(weights, source.header, plan.types, out, shown)
        draft.manifest.details |= {
            **header_facts(after),
            "types": plan.types,
            "expected_divergence": plan.expected_divergence,
            "divergence": plan.divergence,
        }
        out.chmod(0o444)

    def plan(self, source: ModelFile, context: StepContext) -> Plan:
        """The type of each weight, found or worked out. Raises as :meth:`make`."""
        made = context.store.get_or_make(
            self._plan_recipe(source, context), partial(self._make_plan, source, context)
        )
        return Plan(**json.loads(made.file(PLAN_NAME).read_text(encoding="utf-8")))

    def stored_types(self, source: ModelFile, context: StepContext) -> dict[str, str]:
        """See :func:`edgequant.models.steps.to_come.stored_types`."""
        return self.plan(source, context).types

    def _plan_recipe(self, source: ModelFile, context: StepContext) -> Recipe:
        errors, slopes = _errors_recipe(source, context), _slopes_recipe(source, context)
        parameters = {"recipe": PLAN_RECIPE, "limit": self._limit_named(context)}
        inputs = {**source.inputs, "errors": errors.key, "slopes": slopes.key}
        return Recipe(SENSITIVITY_STAGE, inputs, parameters, errors.llama_cpp_commit)

    def _make_plan(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        plain = plain_types(replace(source, importance=None), self.type or ANY_TYPE, context.host)
        limit = _tensor_limit(source.header, plain, None if self.type else context.max_bytes)
        names = tuple(sorted(plain))
        weights, found = weights_of(source, context), _sensitivities(source, context, names)
        plan = _planned(source, found, limit)
        if source.header.parameter_count <= MOST_TRIED_PARAMETERS:
            plan = self._tried(source, context, limit, plan, weights, found)
        write_json(draft.folder / PLAN_NAME, asdict(plan))

    def _tried(
        self,
        source: ModelFile,
        context: StepContext,
        limit: int,
        first: Plan,
        weights: Weights,
        found: dict[str, Sensitivity],
    ) -> Plan:
        """The plan, or a better one where errors do not only add up."""
        names = list(found)
        steps = MOST_ROUNDS * (len(groups_of(names)) + 1) + 1
        with (
            _probe(source, context, names) as probe,
            task(f"Choosing types for {context.model}", total=steps) as shown,
        ):
            tried = [(divergence_of(first, weights, probe), first)]
            for _ in range(MOST_ROUNDS):
                divergence, last = tried[-1]
                if divergence < ADDS_UP * last.expected_divergence:
                    break
                found = measured_among_others(
                    weights, found, last.types, probe, on_step=shown.advance
                )
                plan = _planned(source, found, limit)
                tried.append((divergence_of(plan, weights, probe), plan))
        divergence, best = min(tried, key=lambda pair: pair[0])
        return replace(best, divergence=divergence)

    def _limit_named(self, context: StepContext) -> str | int:
        if self.type is not None:
            return self.type
        if context.max_bytes is None:
            raise QuantizationError(
                "the step mix needs a limit",
                next_step='give the variant max_bytes, or name a type: steps = ["mix:Q2_K"]',
            )
        return context.max_bytes


def _planned(source: ModelFile, found: Mapping[str, Sensitivity], limit: int) -> Plan:
    """The types with the least divergence, as far as slopes tell."""
    tensors = {tensor.name: tensor for tensor in source.header.tensors}
    options = {
        name: [
            Option(type, _aligned(bytes_in(tensors[name], type)), error * own.slope)
            for type, error in own.errors.items()
        ]
        for name, own in found.items()
    }
    chosen = choose(options, limit)
    if chosen is None:
        smallest = sum(min(o.bytes for o in own) for own in options.values())
        raise QuantizationError(
            f"the smallest types take {smallest} bytes, and the limit leaves {limit}",
            subject=source.path,
            next_step="raise the limit; put imatrix before mix, which allows smaller types",
        )
    return Plan(
        {name: option.name for name, option in chosen.items()},
        sum(option.bytes for option in chosen.values()),
        sum(option.cost for option in chosen.values()),
    )


def divergence_of(plan: Plan, weights: Weights, probe: Probe) -> float:
    """The divergence with all weights stored as planned."""
    return probe.divergence(changes(weights, plan.types, probe))


def write_types(
    weights: Weights, info: GgufInfo, types: Mapping[str, str], out: Any, shown: Task
) -> GgufInfo:
    """Write a file with some tensors in other types, each by ggml's own quantizer."""

    def new(name: str, type: str) -> NewTensor:
        read: Callable[[], Any] = partial(weights.quantized, name, type)
        return NewTensor(type, weights.tensors[name].shape, read)

    replaced = {name: new(name, type) for name, type in types.items()}
    metadata = {
        "general.file_type": most_stored_file_type(info, types),
        "general.quantization_version": 2,
    }

    def on_tensor(name: str) -> None:
        if name in types:
            shown.advance()

    return rewrite(info.path, out, replaced=replaced, metadata=metadata, on_tensor=on_tensor)


def most_stored_file_type(info: GgufInfo, types: Mapping[str, str]) -> int:
    """The number of the type that most weights have: readers show it, nothing hangs on it."""
    weights: dict[str, int] = {}
    for tensor in info.tensors:
        if tensor.name in types:
            kind = types[tensor.name]
            weights[kind] = weights.get(kind, 0) + tensor.elements
    most = max(weights, key=lambda kind: weights[kind])
    numbers = file_type_numbers()
    for name in (most, f"{most}_S", f"{most}_M"):
        if name in numbers:
            return numbers[name]
    raise QuantizationError(f"no file is called after {most}")


def _tensor_limit(info: GgufInfo, plain: Mapping[str, str], max_bytes: int | None) -> int:
    """Bytes for the tensors that are quantized: of plain types, or what a file's limit leaves."""
    tensors = [tensor for tensor in info.tensors if tensor.name in plain]
    if max_bytes is None:
        return sum(_aligned(bytes_in(tensor, plain[tensor.name])) for tensor in tensors)
    kept = info.file_bytes - sum(_aligned(tensor.bytes) for tensor in tensors)
    return max_bytes - kept - ADDED_BYTES


def _aligned(size: int) -> int:
    return size + -size % DEFAULT_ALIGNMENT


# Sensitivity ----------------------------------------------------------------------------------


def _sensitivities(
    source: ModelFile, context: StepContext, names: tuple[str, ...]
) -> dict[str, Sensitivity]:
    """Of each weight, found or measured; slopes are those of the model, whatever its matrix."""
    bare = replace(source, importance=None)
    parts: list[dict[str, Any]] = []
    for recipe, file, make in (
        (_errors_recipe(source, context), source, _make_errors),
        (_slopes_recipe(source, context), bare, _make_slopes),
    ):
        made = context.store.get_or_make(recipe, partial(make, file, context, names))
        parts.append(json.loads(made.file(VALUES_NAME).read_text(encoding="utf-8")))
    errors, slopes = parts
    return {name: Sensitivity(errors[name], slopes[name]) for name in names}


def _errors_recipe(source: ModelFile, context: StepContext) -> Recipe:
    return _values_recipe("errors", source.inputs, context)


def _slopes_recipe(source: ModelFile, context: StepContext) -> Recipe:
    return _values_recipe("slopes", {"gguf": source.sha256}, context)


def _values_recipe(what: str, inputs: Mapping[str, str], context: StepContext) -> Recipe:
    commit = context.host.llama_cpp_commit
    parameters = {"what": what, "recipe": SENSITIVITY_RECIPE, "llama_cpp_commit": commit}
    calibration = context.calibration_for(WORD).sha256
    return Recipe(SENSITIVITY_STAGE, {**inputs, "calibration": calibration}, parameters, commit)


def _make_errors(
    source: ModelFile, context: StepContext, names: tuple[str, ...], draft: ArtefactDraft
) -> None:
    weights, inputs = weights_of(source, context), read_importance(_importance(source, context))
    with task(f"Errors of the weights of {context.model}", total=len(names)) as shown:
        found = measure_errors(weights, names, inputs, on_step=shown.advance)
    write_json(draft.folder / VALUES_NAME, found)


def _make_slopes(
    source: ModelFile, context: StepContext, names: tuple[str, ...], draft: ArtefactDraft
) -> None:
    weights, inputs = weights_of(source, context), read_importance(_importance(source, context))
    groups = groups_of(names)
    with (
        _probe(source, context, names) as probe,
        task(f"Sensitivity of {context.model}", total=len(groups)) as shown,
    ):
        found = measure_slopes(weights, names, inputs, probe, on_step=shown.advance)
    write_json(draft.folder / VALUES_NAME, found)
    draft.manifest.details |= {"groups": groups}


def _probe(source: ModelFile, context: StepContext, names: Sequence[str]) -> Probe:
    library = context.host.binary(LIBRARY_NAME)
    with Vocabulary(source.path, library) as vocabulary:
        tokens = probe_tokens(source.header, len(groups_of(names)), vocabulary.size)
        passages = context.calibration_for(WORD).counted_passages(vocabulary, limit_tokens=tokens)
    return Probe(source.path, library, passages)


def _importance(source: ModelFile, context: StepContext) -> Any:
    """Mean squares of the inputs: of the file's own matrix, or one made for this alone."""
    if source.importance is not None:
        return source.importance.path
    step = Imatrix()
    made = context.store.get_or_make(
        step.recipe(source, context), partial(step.make, source, context)
    )
    importance = ModelFile.of_artefact(source.name, made, source).importance
    assert importance is not None
    return importance.path


def weights_of(source: ModelFile, context: StepContext) -> Weights:
    """A file's weights, with its importance matrix if there is one."""
    given = {} if source.importance is None else read_importance(source.importance.path)
    return Weights(source.header, Quantizer(context.host.binary(LIBRARY_NAME)), given)
