"""The whole line for one experiment; each stage is found again where its inputs are the same.

The order is the data's, but for one thing: answers come before latencies, because the board is
measured with a prompt that the model was really asked.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.boards.session import clock_of
from edgequant.core.artefact import Store
from edgequant.core.disk import disk_full_explained
from edgequant.core.errors import ExperimentError
from edgequant.core.progress import say
from edgequant.experiment.file import Experiment
from edgequant.experiment.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.answers.prompts import Prompt
    from edgequant.answers.questions import Question
    from edgequant.answers.table import Answers
    from edgequant.boards.profile import BoardProfile
    from edgequant.build.build import Build
    from edgequant.latency.measure import Latency, MeasureSettings
    from edgequant.latency.pace import Pace
    from edgequant.latency.predict.instructions import InstructionCounts
    from edgequant.matching.match import MatchedResult
    from edgequant.models.model_set import ModelSet
    from edgequant.models.variant import Variant
    from edgequant.report.run import RunManifest, StageRecord

STAGES = 8
# The virtual board is where instructions are counted, whatever board is predicted.
COUNTING_BOARD = "virtual"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves behind."""

    folder: Path
    manifest: RunManifest
    matched: MatchedResult

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def as_dict(self) -> dict[str, object]:
        """Plain values, for ``--json``."""
        from edgequant.core.tables import records
        from edgequant.report.words import nothing_right

        return {
            "folder": str(self.folder),
            "report": str(self.report),
            "stages": [stage.model_dump(mode="json") for stage in self.manifest.stages],
            "best": records(self.matched.best),
            "crossovers": records(self.matched.crossovers),
            "nothing_right": nothing_right(self.matched.scores, self.matched.matched),
            "models": [model.model_dump(mode="json") for model in self.manifest.models],
            "notes": [*self.matched.notes, *self.manifest.model_notes],
        }


@dataclass
class _Stages:
    """Says where the line is, and notes how long each stage took."""

    records: list[StageRecord] = field(default_factory=list)

    @contextlib.contextmanager
    def run(self, title: str) -> Iterator[None]:
        from edgequant.report.run import StageRecord

        say(f"[{len(self.records) + 1}/{STAGES}] {title}")
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        self.records.append(StageRecord(name=title, seconds=round(seconds, 2)))


@dataclass(frozen=True)
class _Inputs:
    """Everything an experiment names, read and checked before any work starts."""

    profile: BoardProfile
    predicted: list[BoardProfile]
    prompts: list[Prompt]
    questions: list[Question]
    variants: tuple[Variant, ...]


def sweep(
    experiment: Experiment, path: Path, out: Path, *, store: Store | None = None
) -> SweepResult:
    """Walk the whole line for one experiment.

    Args:
        experiment: what to do; its relative paths made absolute.
        path: the file it was read from.
        out: the run folder; one that this function wrote before is written anew.
        store: where artefacts are kept, by default the cache.

    Raises:
        EdgequantError: of the class of whatever went wrong; every finished stage is kept.
    """
    from edgequant.answers.table import questions_table

    store = store if store is not None else Store()
    inputs = _read_inputs(experiment)
    folder = RunFolder(out)
    stages = _Stages()
    with stages.run("Build the tools for this host"):
        host = _build("host", store)
    with stages.run(f"Build static binaries for {inputs.profile.name}"):
        board_build = _build(inputs.profile.build.target, store, experiment.board.tools)
    with stages.run(f"Convert and quantize {experiment.model.folder.name}"):
        models = _quantize(experiment, inputs, host, store)
    _check_board(inputs.profile)
    with stages.run(f"Ask {len(inputs.questions)} questions of {len(models)} quantizations"):
        answers = _generate(experiment, inputs, models, host, store)
    prompt = _measured_prompt(answers.frame())
    with stages.run(f"Deploy to {inputs.profile.name} and measure"):
        latency = _measure(experiment, inputs.profile, models, board_build, prompt, store)
    with stages.run("Latencies of the what-ifs"):
        what_if = _what_if_models(experiment, inputs, models, prompt, answers, latency, store)
    questions = questions_table(inputs.questions)
    with stages.run("Match answers and seconds"):
        matched = _match(experiment, answers, questions, [*latency.paces, *what_if])
    with stages.run("Draw the report"), disk_full_explained(out):
        manifest = folder.write(
            experiment=experiment,
            experiment_path=path,
            profile=inputs.profile,
            prompts=inputs.prompts,
            models=models,
            builds={"host": host, "board": board_build},
            answers=answers,
            questions=questions,
            latency=latency,
            paces=[*latency.paces, *what_if],
            matched=matched,
            stages=stages.records,
        )
    return SweepResult(folder.path, manifest, matched)


def _read_inputs(experiment: Experiment) -> _Inputs:
    """Read every small file first: a misspelt name must not surface after an hour of work."""
    from edgequant.answers.prompts import load_prompt
    from edgequant.answers.questions import load_questions
    from edgequant.boards.profile import load_profile
    from edgequant.models.folder import check_model_folder
    from edgequant.models.variant import variants_of_types

    folder = check_model_folder(experiment.model.folder)
    evaluation = experiment.evaluation
    if evaluation.wrapper == "template" and not folder.has_chat_template:
        raise ExperimentError(
            "the model has no chat template, which the experiment's prompts are put into",
            subject=folder.path,
            next_step='set evaluation.wrapper = "chatml" for the study\'s form, or put a '
            "chat_template into tokenizer_config.json",
        )
    prompts = [load_prompt(name) for name in evaluation.prompts]
    for prompt in prompts:
        for strategy in evaluation.strategies:
            strategy.requests(prompt, "", evaluation.max_tokens)  # Refuses what cannot be asked.
    profile = load_profile(experiment.board.name)
    _measure_settings(experiment).check(profile, clock_of(profile, experiment.measure.clock))
    return _Inputs(
        profile=profile,
        predicted=[load_profile(w.board) for w in experiment.what_if if w.board is not None],
        prompts=prompts,
        questions=load_questions(evaluation.questions, evaluation.limit),
        variants=variants_of_types(experiment.model.types),
    )


def _build(target: str, store: Store, tools: list[str] | None = None) -> Build:
    from edgequant.build.build import build

    return build(target, tools=tools, store=store)


def _quantize(experiment: Experiment, inputs: _Inputs, host: Build, store: Store) -> ModelSet:
    from edgequant.models.make import make_models

    return make_models(
        experiment.model.folder,
        inputs.variants,
        host=host,
        output_type=experiment.model.output_type,
        store=store,
    )


def _check_board(profile: BoardProfile) -> None:
    """A board that does not answer should say so before the questions are asked, not after."""
    if profile.kind == "virtual":
        return
    from edgequant.boards.board import open_board

    with open_board(profile):
        pass


def _generate(
    experiment: Experiment, inputs: _Inputs, models: ModelSet, host: Build, store: Store
) -> Answers:
    from edgequant.answers.generate import generate

    evaluation = experiment.evaluation
    return generate(
        {file.name: file.path for file in models},
        server_binary=host.binary("llama-server"),
        llama_cpp_commit=host.llama_cpp_commit,
        prompts=inputs.prompts,
        strategies=evaluation.strategies,
        questions=inputs.questions,
        max_tokens=evaluation.max_tokens,
        wrapper=evaluation.wrapper,
        cache_type_k=experiment.measure.cache_type_k,
        cache_type_v=experiment.measure.cache_type_v,
        store=store,
        model_sha256={file.name: file.sha256 for file in models},
    )


def _measured_prompt(answers: pd.DataFrame) -> str:
    """The first question under the first prompt: the same one when more questions are added."""
    return str(answers["rendered_prompt"].iloc[0])


def _measure(
    experiment: Experiment,
    profile: BoardProfile,
    models: ModelSet,
    build: Build,
    prompt: str,
    store: Store,
) -> Latency:
    from edgequant.boards.session import session
    from edgequant.latency.measure import find_latency, measure

    clock = clock_of(profile, experiment.measure.clock)
    settings = _measure_settings(experiment)
    files = {file.name: file.path for file in models}
    found = find_latency(
        profile, files, settings, build=build, prompt=prompt, clock=clock, store=store
    )
    if found is not None:
        return found
    with session(profile, clock) as board:
        return measure(board, files, settings, build=build, prompt=prompt, clock=clock, store=store)


def _measure_settings(experiment: Experiment) -> MeasureSettings:
    from edgequant.latency.measure import MeasureSettings

    return MeasureSettings(**experiment.measure.model_dump(exclude={"clock"}))


def _what_if_models(
    experiment: Experiment,
    inputs: _Inputs,
    models: ModelSet,
    prompt: str,
    answers: Answers,
    latency: Latency,
    store: Store,
) -> list[Pace]:
    """Latencies that nobody measured on this board: predicted ones, and the study's."""
    from edgequant.latency.pace import study_paces

    found: list[Pace] = []
    for profile in inputs.predicted:
        found += _predict(experiment, profile, models, prompt, answers, latency, store)
    if any(what_if.kind == "study" for what_if in experiment.what_if):
        found += [pace for pace in study_paces() if pace.quantization in models.names]
    return found


def _predict(
    experiment: Experiment,
    profile: BoardProfile,
    models: ModelSet,
    prompt: str,
    answers: Answers,
    latency: Latency,
    store: Store,
) -> list[Pace]:
    from edgequant.latency.predict.roofline import ModelSize, predict

    sizes = {
        file.name: ModelSize(file_bytes=file.bytes, bytes_per_token=file.bytes_per_token)
        for file in models
    }
    counts = _count_instructions(experiment, profile, models, prompt, latency, store)
    prompt_tokens = round(float(answers.frame()["prompt_tokens"].mean()))
    predictions = predict(profile, sizes, counts, prompt_tokens=prompt_tokens)
    return [prediction.pace for prediction in predictions]


def _count_instructions(
    experiment: Experiment,
    profile: BoardProfile,
    models: ModelSet,
    prompt: str,
    latency: Latency,
    store: Store,
) -> dict[str, InstructionCounts]:
    """Instructions per token of the very binary that the predicted board would run."""
    from edgequant.boards.profile import load_profile
    from edgequant.boards.session import session
    from edgequant.latency.predict.instructions import (
        CountSettings,
        count_instructions,
        find_instructions,
    )

    build = _build(profile.build.target, store, experiment.board.tools)
    counting = load_profile(COUNTING_BOARD)
    files = {file.name: file.path for file in models}
    settings = CountSettings(repack=experiment.measure.repack)
    found = find_instructions(counting, files, settings, build=build, prompt=prompt, store=store)
    if found is None:
        with session(counting, "instructions") as board:
            found = count_instructions(
                board,
                files,
                settings,
                build=build,
                prompt=prompt,
                measured=latency,
                store=store,
            )
    return found.of


def _match(
    experiment: Experiment, answers: Answers, questions: pd.DataFrame, paces: list[Pace]
) -> MatchedResult:
    from edgequant.matching.match import match

    return match(
        answers.frame(),
        questions,
        paces,
        experiment.evaluation.budgets,
        time_limits_seconds=experiment.time_limits_seconds,
    )
