"""The graph of one experiment: which stages there are, and what each calls.

Answers and latencies need each other only in one prompt, which is rendered before both: host and
board then work at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from edgequant.core.artefact import Artefact, Store
from edgequant.experiment.file import Experiment
from edgequant.experiment.graph import HOST, Graph, Outcome, Results, Stage
from edgequant.experiment.inputs import Inputs

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.answers.table import Answers
    from edgequant.boards.profile import BoardProfile
    from edgequant.build.build import Build
    from edgequant.experiment.mirror_check import MirrorCheck
    from edgequant.latency.measure import Latency
    from edgequant.latency.pace import Pace
    from edgequant.latency.predict.instructions import Counts, InstructionCounts
    from edgequant.matching.match import MatchedResult
    from edgequant.models.folder import ModelFolder
    from edgequant.models.model_file import ModelFile
    from edgequant.models.model_set import ModelSet
    from edgequant.models.pull.pull import Pulled
    from edgequant.models.variant import Variant

# The virtual board is where instructions are counted, whatever board is predicted.
COUNTING_BOARD = "virtual"


@dataclass(frozen=True)
class Line:
    """The stages whose results a run folder is written from, and the graph of all."""

    graph: Graph
    host: Stage[Build]
    board_build: Stage[Build]
    models: Stage[ModelSet]
    answers: Stage[Answers]
    latency: Stage[Latency]
    paces: Stage[list[Pace]]
    matched: Stage[MatchedResult]
    pulled: Stage[Pulled] | None = None
    """Where the model comes from a hub."""
    mirror_check: Stage[MirrorCheck] | None = None
    quality: Stage[pd.DataFrame] | None = None
    """Where the experiment asks for it."""


def draw_line(experiment: Experiment, inputs: Inputs, store: Store) -> Line:
    """The line of an experiment, none of it run."""
    return _Drawing(experiment, inputs, store).line()


def place_of(profile: BoardProfile, clock: str) -> str:
    """Where a board's stages run: at the host's place, where they would time what it does."""
    shares_time = profile.kind == "local" or (profile.kind == "virtual" and clock == "host")
    return HOST if shares_time else f"board {profile.name}"


class Kept(Protocol):
    """A result with the artefact that holds it; None where it is a file used in place."""

    @property
    def artefact(self) -> Artefact | None: ...


_Kept = TypeVar("_Kept", bound=Kept)


def outcome_of(kept: _Kept) -> Outcome[_Kept]:
    """What a stage made, with its artefact's key and timings."""
    artefact = kept.artefact
    if artefact is None:
        return Outcome(kept, reused=True)
    return Outcome(kept, artefact.key, artefact.reused, artefact.manifest.timings)


def outcome_if_found(kept: _Kept | None) -> Outcome[_Kept] | None:
    """As :func:`outcome_of`; None for what is not there."""
    return None if kept is None else outcome_of(kept)


class _Drawing:
    def __init__(self, experiment: Experiment, inputs: Inputs, store: Store) -> None:
        self._experiment = experiment
        self._inputs = inputs
        self._store = store
        self._builds: dict[str, Stage[Build]] = {}
        self._counted: dict[str, Stage[Counts]] = {}
        self._pulled = self._pull()
        self._pulls = () if self._pulled is None else (self._pulled,)

    def line(self) -> Line:
        inputs = self._inputs
        host = self._build("host", "the tools for this host", None)
        tools = self._experiment.board.tools
        target = inputs.profile.build.target
        board_build = self._build(target, f"static binaries for {inputs.profile.name}", tools)
        made, models = self._models(host)
        prompt = self._prompt(host, models)
        answers = self._answers(host, models)
        latency = self._latency(board_build, models, prompt)
        counts = {
            profile.name: self._counts(
                self._build(profile.build.target, f"static binaries for {profile.name}", tools),
                models,
                prompt,
                latency,
            )
            for profile in inputs.predicted
        }
        paces = self._paces(models, answers, latency, counts)
        matched = self._matched(answers, paces)
        mirror_check = self._mirror_check(models, answers)
        quality = self._quality(host, models, answers)
        distinct = list({id(stage): stage for stage in counts.values()}.values())
        stages = [
            # What is wrong with the model is said before the minutes of a build.
            *self._pulls,
            *self._builds.values(),
            *made,
            models,
            prompt,
            # Before the answers: whoever can start at the same time is started first.
            latency,
            *distinct,
            answers,
            paces,
            matched,
            *([] if mirror_check is None else [mirror_check]),
            *([] if quality is None else [quality]),
        ]
        return Line(
            Graph(stages),
            host,
            board_build,
            models,
            answers,
            latency,
            paces,
            matched,
            self._pulled,
            mirror_check,
            quality,
        )

    # Builds -----------------------------------------------------------------------------------

    def _build(self, target: str, what: str, tools: list[str] | None) -> Stage[Build]:
        from edgequant.build.build import build, find_build

        store = self._store
        if target not in self._builds:
            self._builds[target] = Stage(
                name=f"build {target}",
                title=f"Build {what}",
                run=lambda results: outcome_of(build(target, tools=tools, store=store)),
                find=lambda results: outcome_if_found(find_build(target, tools=tools, store=store)),
                cost=lambda results: "some minutes of compiling",
            )
        return self._builds[target]

    # Models -----------------------------------------------------------------------------------

    def _pull(self) -> Stage[Pulled] | None:
        from edgequant.experiment.inputs import check_wrapper
        from edgequant.models.pull.pull import expected_bytes, find_pulled, pull
        from edgequant.models.pull.space import Conversion

        request, store, variants = self._inputs.request, self._store, self._inputs.variants
        if request is None:
            return None

        def run(results: Results) -> Outcome[Pulled]:
            conversion = Conversion(store.root, variants) if variants else None
            pulled = pull(request, store=store, refresh=False, conversion=conversion)
            if variants:
                check_wrapper(pulled.model_folder, self._experiment.evaluation)
            return outcome_of(pulled)

        def cost(results: Results) -> str:
            size = expected_bytes(request)
            return "size not known: no hub tells it" if size is None else f"{size / 1e6:.0f} MB"

        return Stage(
            name="pull",
            title=f"Pull {request.shown}",
            run=run,
            find=lambda results: outcome_if_found(find_pulled(request, store=store)),
            cost=cost,
        )

    def _folder(self, results: Results) -> ModelFolder:
        """The model's folder, for a stage that needs what is pulled."""
        if self._inputs.folder is not None:
            return self._inputs.folder
        assert self._pulled is not None
        return results[self._pulled].model_folder

    def _models(self, host: Stage[Build]) -> tuple[list[Stage[Any]], Stage[ModelSet]]:
        if not self._inputs.variants:
            return [], self._ready_models()
        base = self._base(host)
        variants = [self._variant(variant, base, host) for variant in self._inputs.variants]
        name = self._model_name

        def gather(results: Results) -> Outcome[ModelSet]:
            from edgequant.models.make import gather_models

            return Outcome(
                gather_models(name, [results[v] for v in variants], results[base]), reused=True
            )

        models = Stage("models", f"Look at the variants of {name}", gather, (base, *variants))
        return [base, *variants], _cheap(models)

    @property
    def _model_name(self) -> str:
        """The folder's, or that of the repository it is pulled from."""
        folder = self._inputs.folder
        return self._experiment.model.label if folder is None else folder.name

    def _ready_models(self) -> Stage[ModelSet]:
        inputs = self._inputs

        def take(results: Results) -> Outcome[ModelSet]:
            from edgequant.models.ready import take_in

            files = dict(inputs.files)
            if self._pulled is not None:
                pulled = results[self._pulled]
                files = {name: pulled.gguf(fits) for name, fits in inputs.patterns.items()}
            label = self._experiment.model.label
            return Outcome(take_in(files, name=label, store=self._store), reused=True)

        title = f"Take in {len(inputs.variant_names)} ready GGUF files"
        return _cheap(Stage("models", title, take, self._pulls))

    def _base(self, host: Stage[Build]) -> Stage[ModelFile]:
        from edgequant.models.make import convert_folder, find_base

        store, output_type = self._store, self._experiment.model.output_type

        def run(results: Results) -> Outcome[ModelFile]:
            folder = self._folder(results)
            return outcome_of(
                convert_folder(folder, host=results[host], output_type=output_type, store=store)
            )

        def find(results: Results) -> Outcome[ModelFile] | None:
            folder = self._folder(results)
            return outcome_if_found(
                find_base(folder, host=results[host], output_type=output_type, store=store)
            )

        def cost(results: Results) -> str:
            return f"about {self._folder(results).parameter_count * 2 / 1e6:.0f} MB to write"

        return Stage(
            name="convert",
            title=f"Convert {self._model_name} to a 16-bit GGUF",
            run=run,
            needs=(host, *self._pulls),
            find=find,
            cost=cost,
        )

    def _variant(
        self, variant: Variant, base: Stage[ModelFile], host: Stage[Build]
    ) -> Stage[ModelFile]:
        from edgequant.models.make import find_variant, make_variant
        from edgequant.models.steps.step import StepContext

        def context(results: Results) -> StepContext:
            calibration = self._inputs.calibration
            return StepContext(self._model_name, results[host], self._store, calibration)

        def run(results: Results) -> Outcome[ModelFile]:
            return outcome_of(make_variant(variant, results[base], context(results)))

        def find(results: Results) -> Outcome[ModelFile] | None:
            return outcome_if_found(find_variant(variant, results[base], context(results)))

        def cost(results: Results) -> str:
            from edgequant.models.steps.quantize import expected_bytes

            size = expected_bytes(results[base].header, variant.steps[-1])
            return f"at most {size / 1e6:.0f} MB to write"

        steps = "" if variant.steps == (variant.name,) else f" ({' + '.join(variant.steps)})"
        return Stage(
            name=f"variant {variant.name}",
            title=f"Make {variant.name}{steps}",
            run=run,
            needs=(host, base),
            find=find,
            cost=cost,
        )

    # Prompt, answers, seconds -----------------------------------------------------------------

    def _prompt(self, host: Stage[Build], models: Stage[ModelSet]) -> Stage[str]:
        def render(results: Results) -> Outcome[str]:
            from edgequant.experiment.measured_prompt import measured_prompt

            library = results[host].library
            return Outcome(
                measured_prompt(self._experiment, self._inputs, results[models], library),
                reused=True,
            )

        title = "Render the prompt that the board is measured with"
        return _cheap(Stage("prompt", title, render, (host, models)))

    def _answers(self, host: Stage[Build], models: Stage[ModelSet]) -> Stage[Answers]:
        from edgequant.answers.generate import answer_bounds, find_answers, generate
        from edgequant.answers.mirrors.registry import make_mirrors

        inputs, evaluation = self._inputs, self._experiment.evaluation
        mirror, measured = self._experiment.mirror, self._experiment.measure
        # What is scored is what is measured.
        configuration = {
            "cache_type_k": measured.cache_type_k,
            "cache_type_v": measured.cache_type_v,
            "flash_attention": measured.flash_attention,
        }
        questions = len(inputs.questions)

        def arguments(results: Results) -> dict[str, Any]:
            return {
                "models": [*results[models]],
                "mirrors": make_mirrors(
                    mirror.kind, results[host], defaults=configuration, **mirror.settings
                ),
                "prompts": inputs.prompts,
                "strategies": evaluation.strategies,
                "questions": inputs.questions,
                "task_prompts": inputs.task_prompts,
                "max_tokens": evaluation.max_tokens,
                "wrapper": evaluation.wrapper,
                "store": self._store,
            }

        def run(results: Results) -> Outcome[Answers]:
            return outcome_of(generate(**arguments(results)))

        def find(results: Results) -> Outcome[Answers] | None:
            return outcome_if_found(find_answers(**arguments(results)))

        def cost(results: Results) -> str:
            bounds = answer_bounds(inputs.asked(), evaluation.strategies, evaluation.max_tokens)
            variants = len(inputs.variant_names)
            count = sum(answers for answers, _ in bounds) * variants
            tokens = sum(tokens for _, tokens in bounds) * variants
            return f"{count:,} generations, {tokens:,} tokens at most, as far as not kept"

        return Stage(
            name="answers",
            title=f"Ask {questions} questions of {len(inputs.variant_names)} variants",
            run=run,
            needs=(host, models),
            find=find,
            cost=cost,
        )

    def _mirror_check(
        self, models: Stage[ModelSet], answers: Stage[Answers]
    ) -> Stage[MirrorCheck] | None:
        from edgequant.boards.session import clock_of, session
        from edgequant.experiment.mirror_check import Checking, check_mirror, find_mirror_check

        inputs, store = self._inputs, self._store
        profile, section = inputs.checked, self._experiment.mirror_check
        if profile is None or section is None:
            return None
        clock = clock_of(profile, self._experiment.measure.clock)
        build = self._build(
            profile.build.target,
            f"static binaries for {profile.name}",
            self._experiment.board.tools,
        )

        def checking(results: Results) -> Checking:
            return Checking(
                profile=profile,
                clock=clock,
                build=results[build],
                models=results[models],
                answers=results[answers],
                settings=inputs.settings,
                section=section,
            )

        def run(results: Results) -> Outcome[MirrorCheck]:
            return outcome_of(
                check_mirror(checking(results), lambda: session(profile, clock), store=store)
            )

        def find(results: Results) -> Outcome[MirrorCheck] | None:
            return outcome_if_found(find_mirror_check(checking(results), store=store))

        count = section.prompts * len(inputs.variant_names)
        return Stage(
            name="mirror check",
            title=f"Compare the mirror with {profile.name}",
            run=run,
            needs=(build, models, answers),
            place=place_of(profile, clock),
            find=find,
            cost=lambda results: f"{count} answers of at most {section.tokens} tokens",
        )

    def _quality(
        self, host: Stage[Build], models: Stage[ModelSet], answers: Stage[Answers]
    ) -> Stage[pd.DataFrame] | None:
        section = self._experiment.quality
        if section is None:
            return None

        def compare(results: Results) -> Outcome[pd.DataFrame]:
            from edgequant.core.tables import records
            from edgequant.experiment.quality import compare_variants

            rows = [] if section.answers_of is None else records(results[answers].frame())
            return Outcome(
                compare_variants(
                    results[models],
                    rows,
                    section,
                    host=results[host],
                    calibration=self._inputs.calibration,
                    store=self._store,
                )
            )

        title = "Compare the variants with the 16-bit file"
        return Stage("quality", title, compare, (host, models, answers))

    def _latency(
        self, build: Stage[Build], models: Stage[ModelSet], prompt: Stage[str]
    ) -> Stage[Latency]:
        from edgequant.boards.session import session
        from edgequant.latency.measure import find_latency, measure

        inputs, store = self._inputs, self._store
        profile, clock, settings = inputs.profile, inputs.clock, inputs.settings

        def find(results: Results) -> Outcome[Latency] | None:
            return outcome_if_found(
                find_latency(
                    profile,
                    results[models].paths,
                    settings,
                    build=results[build],
                    prompt=results[prompt],
                    clock=clock,
                    store=store,
                )
            )

        def run(results: Results) -> Outcome[Latency]:
            if (found := find(results)) is not None:
                return found
            with session(profile, clock) as board:
                made = measure(
                    board,
                    results[models].paths,
                    settings,
                    build=results[build],
                    prompt=results[prompt],
                    clock=clock,
                    store=store,
                )
            return outcome_of(made)

        runs = settings.repeats * len(inputs.variant_names)
        return Stage(
            name="latency",
            title=f"Deploy to {profile.name} and measure",
            run=run,
            needs=(build, models, prompt),
            place=place_of(profile, clock),
            find=find,
            cost=lambda results: f"{runs} runs of {settings.tokens} tokens",
        )

    def _counts(
        self,
        build: Stage[Build],
        models: Stage[ModelSet],
        prompt: Stage[str],
        latency: Stage[Latency],
    ) -> Stage[Counts]:
        from edgequant.boards.profile import load_profile
        from edgequant.boards.session import session
        from edgequant.latency.predict.instructions import (
            CountSettings,
            count_instructions,
            find_instructions,
        )

        counting, store = load_profile(COUNTING_BOARD), self._store
        settings = CountSettings(repack=self._experiment.measure.repack)

        def find(results: Results) -> Outcome[Counts] | None:
            return outcome_if_found(
                find_instructions(
                    counting,
                    results[models].paths,
                    settings,
                    build=results[build],
                    prompt=results[prompt],
                    store=store,
                )
            )

        def run(results: Results) -> Outcome[Counts]:
            if (found := find(results)) is not None:
                return found
            with session(counting, "instructions") as board:
                made = count_instructions(
                    board,
                    results[models].paths,
                    settings,
                    build=results[build],
                    prompt=results[prompt],
                    measured=results[latency],
                    store=store,
                )
            return outcome_of(made)

        name = f"instructions {build.name.removeprefix('build ')}"
        variants = len(self._inputs.variant_names)
        return self._once(
            Stage(
                name=name,
                title="Count the instructions of a token",
                run=run,
                needs=(build, models, prompt, latency),
                place=place_of(counting, "instructions"),
                find=find,
                cost=lambda results: f"up to {3 * variants} runs on the virtual board",
            )
        )

    def _once(self, stage: Stage[Counts]) -> Stage[Counts]:
        """Boards of one target run the same binary: it is counted once."""
        return self._counted.setdefault(stage.name, stage)

    def _paces(
        self,
        models: Stage[ModelSet],
        answers: Stage[Answers],
        latency: Stage[Latency],
        counts: Mapping[str, Stage[Counts]],
    ) -> Stage[list[Pace]]:
        def work_out(results: Results) -> Outcome[list[Pace]]:
            from edgequant.latency.pace import study_paces

            found = list(results[latency].paces)
            tokens = round(float(results[answers].frame()["prompt_tokens"].mean()))
            for profile in self._inputs.predicted:
                counted = results[counts[profile.name]].of
                found += _predicted(profile, results[models], counted, tokens)
            if any(what_if.kind == "study" for what_if in self._experiment.what_if):
                names = results[models].names
                found += [pace for pace in study_paces() if pace.quantization in names]
            return Outcome(found)

        needs: tuple[Stage[Any], ...] = (models, answers, latency, *dict.fromkeys(counts.values()))
        return Stage("paces", "Work out the seconds of the what-ifs", work_out, needs)

    def _matched(self, answers: Stage[Answers], paces: Stage[list[Pace]]) -> Stage[MatchedResult]:
        def join(results: Results) -> Outcome[MatchedResult]:
            from edgequant.answers.table import questions_table
            from edgequant.matching.match import match

            found: list[Pace] = results[paces]
            return Outcome(
                match(
                    results[answers].frame(),
                    questions_table(self._inputs.questions),
                    found,
                    self._experiment.evaluation.budgets,
                    time_limits_seconds=self._experiment.time_limits_seconds,
                )
            )

        return Stage("match", "Match answers and seconds", join, (answers, paces))


def _predicted(
    profile: BoardProfile,
    models: ModelSet,
    counts: Mapping[str, InstructionCounts],
    prompt_tokens: int,
) -> list[Pace]:
    from edgequant.latency.predict.roofline import ModelSize, predict

    sizes = {
        file.name: ModelSize(file_bytes=file.bytes, bytes_per_token=file.bytes_per_token)
        for file in models
    }
    predictions = predict(profile, sizes, counts, prompt_tokens=prompt_tokens)
    return [prediction.pace for prediction in predictions]


def _cheap(stage: Stage[Any]) -> Stage[Any]:
    """A stage that keeps nothing, since it takes no time: looked for by being run."""
    return Stage(stage.name, stage.title, stage.run, stage.needs, stage.place, find=stage.run)
