"""Everything an experiment names, read and checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgequant.answers.calibration import load_calibration, refuse_common_questions
from edgequant.answers.prompts import Prompt, load_prompt
from edgequant.answers.questions import Question, load_questions
from edgequant.boards.profile import BoardProfile, Clock, load_profile
from edgequant.boards.session import clock_of
from edgequant.core.errors import ExperimentError
from edgequant.experiment.file import CalibrationSection, EvaluationSection, Experiment
from edgequant.experiment.quality import read_texts
from edgequant.experiment.question_files import question_file
from edgequant.latency.measure import MeasureSettings
from edgequant.models.calibration import Calibration
from edgequant.models.folder import ModelFolder, check_model_folder
from edgequant.models.pull.request import PullRequest
from edgequant.models.ready import check_whole_model
from edgequant.models.steps.merge import find_parts
from edgequant.models.variant import Variant

NOT_THE_PROBE_S = {"clock", "flash_attention"}
"""Keys of ``[measure]`` that are no settings of the probe."""


@dataclass(frozen=True)
class Inputs:
    """What the stages of one experiment are given."""

    folder: ModelFolder | None
    """None where the model's files are there already, or it is pulled."""
    files: Mapping[str, Path]
    """Ready files by variant."""
    request: PullRequest | None
    """What is pulled, in place of a folder or of files."""
    patterns: Mapping[str, str]
    """Ready files among what is pulled, by variant."""
    variants: tuple[Variant, ...]
    """What is made of the folder, or of what is pulled."""
    calibration: Calibration | None
    """What their steps look at the model's numbers on."""
    profile: BoardProfile
    clock: Clock
    settings: MeasureSettings
    predicted: tuple[BoardProfile, ...]
    checked: BoardProfile | None
    """The board that the mirror is compared with."""
    prompts: tuple[Prompt, ...]
    questions: tuple[Question, ...]
    """Of all tasks."""
    task_prompts: Mapping[str, tuple[str, ...]]
    """Names of the prompts of tasks that are not asked in all of them."""

    def asked(self) -> list[tuple[Prompt, Question]]:
        """Each question in each prompt that asks it."""
        return [
            (prompt, question)
            for prompt in self.prompts
            for question in self.questions
            if prompt.name in self.task_prompts.get(question.task or "", (prompt.name,))
        ]

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Of what is made, or of the files."""
        return tuple(v.name for v in self.variants) or tuple(self.files) or tuple(self.patterns)


def read_inputs(experiment: Experiment) -> Inputs:
    """Read every small file: a misspelt name must not surface after an hour of work.

    Raises:
        EdgequantError: of the class of whatever is missing or wrong.
    """
    evaluation, model, check = experiment.evaluation, experiment.model, experiment.mirror_check
    folder = None if model.folder is None else check_model_folder(model.folder)
    for path in model.files.values():
        _check_ready_file(path)
    if folder is not None:
        check_wrapper(folder, evaluation)
    loaded = {name: load_prompt(name) for name in evaluation.all_prompts}
    prompts = tuple(loaded.values())
    profile = load_profile(experiment.board.name)
    clock = clock_of(profile, experiment.measure.clock)
    settings = MeasureSettings(
        **experiment.measure.model_dump(exclude={"clock", "flash_attention"})
    )
    settings.check(profile, clock)
    inputs = Inputs(
        folder=folder,
        files=model.files,
        request=model.request,
        patterns=model.file,
        variants=model.variants(),
        calibration=_calibration(model.calibration),
        profile=profile,
        clock=clock,
        settings=settings,
        predicted=tuple(load_profile(w.board) for w in experiment.what_if if w.board is not None),
        checked=None if check is None else load_profile(check.board),
        prompts=prompts,
        questions=_questions(evaluation),
        task_prompts={
            task.name: tuple(loaded[name].name for name in task.prompts)
            for task in evaluation.task
            if task.prompts
        },
    )
    if experiment.quality is not None:
        read_texts(experiment.quality)
    if model.calibration is not None and model.calibration.questions is not None:
        refuse_common_questions(model.calibration.questions, inputs.questions)
    for prompt, question in inputs.asked():
        for strategy in evaluation.strategies:
            strategy.requests(prompt, question, evaluation.max_tokens)  # Refuses what cannot be.
    return inputs


def check_wrapper(folder: ModelFolder, evaluation: EvaluationSection) -> None:
    """See that a model has the form that prompts are put into.

    Raises:
        ExperimentError: it has none.
    """
    if evaluation.wrapper == "template" and not folder.has_chat_template:
        raise ExperimentError(
            "the model has no chat template, which the experiment's prompts are put into",
            subject=folder.path,
            next_step='set evaluation.wrapper = "chatml" for the study\'s form, or put a '
            "chat_template into tokenizer_config.json",
        )


def _calibration(section: CalibrationSection | None) -> Calibration | None:
    if section is None:
        return None
    return load_calibration(
        section.texts, section.questions, prompt=section.prompt, tokens=section.tokens
    )


def _questions(evaluation: EvaluationSection) -> tuple[Question, ...]:
    if evaluation.has_questions:
        return tuple(load_questions(question_file(evaluation), evaluation.limit))
    return tuple(
        question
        for task in evaluation.task
        for question in load_questions(question_file(task), task.limit, task.name)
    )


def _check_ready_file(path: Path) -> None:
    from edgequant.models.formats.gguf import read_gguf

    split = find_parts(path)
    check_whole_model(read_gguf(path if split is None else split.parts[0]))
