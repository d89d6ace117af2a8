"""An experiment file: everything one sweep needs to know, as a user writes it in TOML."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from edgequant.answers.calibration import DEFAULT_PROMPT
from edgequant.answers.strategies.registry import default_strategies, make_strategy
from edgequant.answers.strategies.strategy import Strategy
from edgequant.core.errors import ExperimentError, HubNotFoundError, QuantizationError
from edgequant.core.fields import (
    BASE_FOLDER,
    DataFile,
    FilePath,
    Name,
    PositiveInt,
    Seconds,
    Section,
)
from edgequant.core.toml_file import read_toml_model, require_data_file
from edgequant.latency.probe import CACHE_TYPES, PROBE_NAME
from edgequant.matching.composite import CompositeSection
from edgequant.models.calibration import DEFAULT_TOKENS
from edgequant.models.pull.request import DEFAULT_REVISION, PullRequest
from edgequant.models.steps.registry import located
from edgequant.models.variant import Variant

BASE_TYPES = ("F16", "BF16")


def _known_cache_type(name: str) -> str:
    if name not in CACHE_TYPES:
        raise ValueError(f"{name!r} is none of {', '.join(CACHE_TYPES)}")
    return name


CacheType = Annotated[str, AfterValidator(_known_cache_type)]


def _strategy(settings: object) -> object:
    if not isinstance(settings, dict):
        return settings
    try:
        return make_strategy(settings)
    except ExperimentError as error:
        raise ValueError(error.cause) from error


# Its settings are the strategy's own, also of one that another package brings.
AnyStrategy = Annotated[
    SerializeAsAny[Strategy],
    BeforeValidator(_strategy),
    WithJsonSchema(
        {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    ),
]


def _located(word: str, info: ValidationInfo) -> str:
    base = (info.context or {}).get(BASE_FOLDER)
    return word if base is None else located(word, Path(base))


class VariantSection(Section):
    """One variant of the model, by its steps."""

    name: Name
    """What it is called in tables; its file is named for it."""
    steps: list[Annotated[str, AfterValidator(_located)]] = Field(min_length=1)
    """What is done to the 16-bit file, one step after another; a word may have an argument behind
    a colon, and a relative path there starts at the experiment file."""
    max_bytes: PositiveInt | None = None
    """A larger file is an error."""


class CalibrationSection(Section):
    """What steps like ``imatrix`` look at the model's numbers on."""

    texts: list[FilePath] = Field(default=[])
    """Plain texts; relative paths start at the experiment file."""
    questions: FilePath | None = None
    """Questions with worked answers, asked in the prompt and in the model's own template."""
    prompt: DataFile = DEFAULT_PROMPT
    """A prompt's name or path."""
    tokens: PositiveInt = DEFAULT_TOKENS
    """At most so many are read."""

    @model_validator(mode="after")
    def _something(self) -> CalibrationSection:
        if not self.texts and self.questions is None:
            raise ValueError("give texts or questions")
        return self


class ModelSection(Section):
    """Which model, in which variants: made from a folder or pulled, or files that are there."""

    folder: FilePath | None = None
    """Hugging Face folder; relative paths start at the experiment file."""
    files: dict[Name, FilePath] = Field(default={})
    """Ready GGUF files by the names of their variants, in place of a folder; of a split one, any
    part. Relative paths start at the experiment file."""
    id: str | None = None
    """Id on a Hugging Face hub (``org/name``), pulled in place of a folder."""
    revision: str = DEFAULT_REVISION
    """Of the id: a branch, a tag or a commit hash."""
    file: dict[Name, str] = Field(default={})
    """Of the id: patterns of ready GGUF files by the names of their variants, each fitting one."""
    allow_pickle: bool = False
    """Of the id: also pull weights that are pickles, which can run code when they are loaded."""
    types: list[str] = Field(default=[])
    """Variants by quantizations as llama-quantize names them; F16 or BF16 stands for the
    unquantized one."""
    variant: list[VariantSection] = Field(default=[])
    """Variants by their steps."""
    output_type: Literal["auto", "f16", "bf16"] = "auto"
    calibration: CalibrationSection | None = None
    """For variants with steps that need it."""

    @model_validator(mode="after")
    def _one_source(self) -> ModelSection:
        if sum([self.folder is not None, bool(self.files), self.id is not None]) != 1:
            raise ValueError("give either folder, files or id")
        ready = self.files or self.file
        if ready and (self.types or self.variant):
            raise ValueError("files are variants already: types and variant go with a folder")
        if not ready and not self.types and not self.variant:
            raise ValueError("give types, or at least one [[model.variant]]")
        return self

    @model_validator(mode="after")
    def _hub_keys_with_an_id(self) -> ModelSection:
        if self.id is None and {"revision", "file", "allow_pickle"} & self.model_fields_set:
            raise ValueError("revision, file and allow_pickle go with an id")
        _check_request(self)
        return self

    @property
    def request(self) -> PullRequest | None:
        """What is pulled; None where everything is on this machine."""
        if self.id is None:
            return None
        patterns = tuple(dict.fromkeys(self.file.values()))
        return PullRequest(self.id, self.revision, files=patterns, pickles=self.allow_pickle)

    @property
    def label(self) -> str:
        """What the model is called before it is looked at."""
        if self.folder is not None:
            return self.folder.name
        if self.request is not None:
            return self.request.name
        return common_stem([path.name for path in self.files.values()])

    def variants(self) -> tuple[Variant, ...]:
        """What is made of the folder, or of what is pulled.

        Raises:
            QuantizationError: a type or step is unknown, or two variants have one name.
        """
        named = [
            *map(Variant.of_type, dict.fromkeys(self.types)),
            *(Variant.of_steps(v.name, v.steps, v.max_bytes) for v in self.variant),
        ]
        found = {variant.name: variant for variant in named}
        for name in found:
            if len({variant for variant in named if variant.name == name}) > 1:
                raise QuantizationError(f"two variants are called {name}")
        return tuple(found.values())


def common_stem(names: Sequence[str]) -> str:
    """What several file names begin with, without the separators at its end: ``Llama-3-8B``."""
    stems = [name.removesuffix(".gguf") for name in names]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    return "".join(letters[0] for letters in same).rstrip("-_. ") or stems[0]


class BoardSection(Section):
    """Which board, and how it is built for."""

    name: DataFile
    """A profile's name, or its path; relative paths start at the experiment file."""
    tools: list[str] = Field(default=[PROBE_NAME])
    """Binaries to build and deploy; the probe is all that a sweep itself runs."""

    @field_validator("tools")
    @classmethod
    def _with_the_probe(cls, tools: list[str]) -> list[str]:
        if PROBE_NAME not in tools:
            raise ValueError(f"needs {PROBE_NAME}, which measures")
        return tools


class MeasureSection(Section):
    """How the latency is measured."""

    tokens: PositiveInt = 64
    repeats: PositiveInt = 3
    threads: PositiveInt | None = None
    repack: bool = True
    cache_type_k: CacheType = "f16"
    cache_type_v: CacheType = "f16"
    flash_attention: Literal["auto", "on", "off"] = "auto"
    """Of the mirror; the probe leaves it to llama.cpp, as auto does."""
    prompt_lengths: tuple[PositiveInt, ...] | None = None
    """Tokens of the further prompts that are run for a few tokens; half and double of the prompt
    where left out, none where empty."""
    clock: Literal["instructions", "host"] = "instructions"
    """Of a virtual board: nanoseconds that count instructions repeat exactly; those of this host
    depend on what else it does. A real board has its own clock."""


class MirrorSection(BaseModel):
    """What answers the questions in the board's place. All other keys are the kind's own."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    kind: str = "llama-server"
    """Our own llama-server, any server that speaks OpenAI's protocol, or one of a package's."""

    @property
    def settings(self) -> dict[str, Any]:
        """The kind's own."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _can_be_made(self) -> MirrorSection:
        from edgequant.answers.mirrors.registry import check_settings

        try:
            check_settings(self.kind, self.settings)
        except ExperimentError as error:
            raise ValueError(error.cause) from error
        return self


class MirrorCheckSection(Section):
    """Some of the mirror's prompts are answered by a board, too."""

    board: DataFile
    """Which: a profile's name or path."""
    prompts: PositiveInt = 4
    """Of each variant."""
    tokens: PositiveInt = 48
    """Of each answer, at most."""


class DatasetSection(Section):
    """A file of questions on a Hugging Face hub."""

    id: str
    """``org/name`` of the data set."""
    revision: str = DEFAULT_REVISION
    """A branch, a tag or a commit hash."""
    file: str
    """Pattern that fits one of its files: JSONL or Parquet."""

    @model_validator(mode="after")
    def _is_an_id(self) -> DatasetSection:
        _check_request(self)
        return self

    @property
    def request(self) -> PullRequest:
        """What is pulled."""
        return PullRequest(self.id, self.revision, kind="dataset", files=(self.file,))


def _check_request(section: ModelSection | DatasetSection) -> None:
    """See that what a section names can be asked of a hub."""
    try:
        _ = section.request
    except HubNotFoundError as error:
        raise ValueError(error.cause) from error


class QuestionsSection(Section):
    """Questions of one file."""

    questions: FilePath | None = None
    """JSONL or Parquet in the form of GSM8K, ARC or MMLU; relative paths start at the experiment
    file."""
    dataset: DatasetSection | None = None
    """Such a file on a hub, in place of ``questions``."""
    limit: PositiveInt | None = None
    """Draw so many questions: those whose texts have the smallest SHA-256."""

    @property
    def has_questions(self) -> bool:
        """Whether a file is named."""
        return self.questions is not None or self.dataset is not None

    @model_validator(mode="after")
    def _one_file(self) -> QuestionsSection:
        if self.questions is not None and self.dataset is not None:
            raise ValueError("give questions or dataset, not both")
        return self


class TaskSection(QuestionsSection):
    """One of several tasks: questions of a kind, asked in prompts for that kind."""

    name: Name
    prompts: list[DataFile] = Field(default=[])
    """In place of ``evaluation.prompts``."""

    @model_validator(mode="after")
    def _has_a_file(self) -> TaskSection:
        if not self.has_questions:
            raise ValueError("give questions or dataset")
        return self


class EvaluationSection(QuestionsSection):
    """Which questions are asked, how, and with which budgets in tokens."""

    task: list[TaskSection] = Field(default=[])
    """Several question files, in place of ``questions``, ``dataset`` and ``limit``."""
    prompts: list[DataFile] = Field(default=[])
    """Names of prompts, or paths of their files; relative paths start at the experiment file."""
    budgets: list[PositiveInt] = Field(default=[])
    """Hard budgets, cut from the uncapped answer for free."""
    stated_budgets: list[PositiveInt] = Field(default=[])
    """Budgets told to the model: each is generated anew. Short for the strategies truncate and
    stated."""
    strategy: list[AnyStrategy] = Field(default=[])
    """How questions are asked; by default truncate, and stated where budgets are stated."""
    max_tokens: PositiveInt = 1024
    """Where an answer without a limit is stopped all the same."""
    wrapper: Literal["template", "chatml"] = "template"
    composite: CompositeSection | None = None
    """Weights of the composite score, for experiments that score each variant against 16 bits."""

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """Each prompt once, those of the first task first."""
        named = [name for task in self.task for name in task.prompts or self.prompts]
        return tuple(dict.fromkeys(named or self.prompts))

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The strategies that questions are asked in."""
        return tuple(self.strategy) or default_strategies(self.stated_budgets)

    @model_validator(mode="after")
    def _strategies_in_one_form(self) -> EvaluationSection:
        if self.strategy and self.stated_budgets:
            raise ValueError("give stated_budgets or [[evaluation.strategy]], not both")
        names = [strategy.name for strategy in self.strategy]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"the strategy {', '.join(repeated)} is there more than once")
        return self

    @model_validator(mode="after")
    def _questions_in_one_form(self) -> EvaluationSection:
        if self.has_questions == bool(self.task):
            raise ValueError("give questions, dataset or [[evaluation.task]], and one alone")
        if self.task and self.limit is not None:
            raise ValueError("each [[evaluation.task]] has a limit of its own")
        names = [task.name for task in self.task]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"the task {', '.join(repeated)} is there more than once")
        if not self.prompts and not (self.task and all(task.prompts for task in self.task)):
            raise ValueError("give prompts")
        return self

    @field_validator("prompts")
    @classmethod
    def _each_prompt_once(cls, prompts: list[str]) -> list[str]:
        repeated = sorted({name for name in prompts if prompts.count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is there more than once")
        return prompts


class QualitySection(Section):
    """How far the variants lie from their 16-bit file, and on what that is measured."""

    texts: list[FilePath] = Field(default=[])
    """UTF-8 texts; relative paths start at the experiment file."""
    answers_of: Name | None = None
    """A variant whose answers in this run are compared on as well."""
    limit: PositiveInt = 200
    """At most so many of these answers."""
    context: Annotated[PositiveInt, Field(ge=4)] = 512
    """Tokens of a text's window."""

    @model_validator(mode="after")
    def _something(self) -> QualitySection:
        if not self.texts and self.answers_of is None:
            raise ValueError("give texts or answers_of")
        names = [path.name for path in self.texts]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two texts are called {', '.join(repeated)}")
        return self


class WhatIf(Section):
    """The same answers under other latencies than the board's own."""

    kind: Literal["predicted", "study"]
    board: DataFile | None = None
    """Whose seconds are predicted: a profile's name or path."""

    @model_validator(mode="after")
    def _board_where_needed(self) -> WhatIf:
        if self.kind == "predicted" and self.board is None:
            raise ValueError("a predicted what-if needs the name of a board")
        return self


class Experiment(Section):
    """One experiment file."""

    name: Name
    """Also the name of its run folder: without slashes, and not dots alone."""
    description: str = ""
    model: ModelSection
    board: BoardSection
    measure: MeasureSection = MeasureSection()
    mirror: MirrorSection = Field(default_factory=MirrorSection)
    mirror_check: MirrorCheckSection | None = None
    evaluation: EvaluationSection
    quality: QualitySection | None = None
    time_limits_seconds: list[Seconds] = Field(default=[])
    """Limits the table of best choices is drawn up for; chosen from the data where empty."""
    what_if: list[WhatIf] = Field(default=[])

    @model_validator(mode="after")
    def _composite_has_a_base(self) -> Experiment:
        if self.evaluation.composite is not None and self.composite_base is None:
            raise ValueError(
                "evaluation.composite sets all variants against the 16-bit one: add F16 or BF16 "
                "to the variants, or name another as its base"
            )
        return self

    @model_validator(mode="after")
    def _quality_has_a_reference(self) -> Experiment:
        if self.quality is not None and (self.model.files or self.model.file):
            raise ValueError(
                "quality needs the 16-bit file that the variants are made from: name the model's "
                "folder or id, or compare ready files with edgequant quality F16.gguf --variant "
                "NAME=GGUF"
            )
        return self

    @property
    def composite_base(self) -> str | None:
        """The variant that the composite score sets all against; None: there is none."""
        model = self.model
        names = [*model.types, *(v.name for v in model.variant), *model.files, *model.file]
        section = self.evaluation.composite
        wanted = BASE_TYPES if section is None or section.base is None else (section.base,)
        return next((name for name in wanted if name in names), None)


def load_experiment(name_or_path: str) -> tuple[Experiment, Path]:
    """Read an experiment file, with its relative paths made absolute.

    Args:
        name_or_path: a path, or the bare name of a file in ``experiments/``.

    Returns:
        The experiment and the path it was read from.

    Raises:
        ExperimentError: no such file, not TOML, or a wrong or missing key.
    """
    path = require_data_file("experiments", name_or_path, what="experiment", error=ExperimentError)
    experiment = read_toml_model(
        path,
        Experiment,
        error=ExperimentError,
        next_step="see docs/experiments.md for every key",
    )
    return experiment, path.resolve()
