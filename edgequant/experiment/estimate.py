"""What a sweep comes to, from the experiment file alone: known before the model is there.

Everything is an upper bound but the board's hours, which are a lower one; nothing that is kept
from earlier runs is taken off.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from edgequant.answers.generate import answer_bounds
from edgequant.answers.prompts import Prompt, load_prompt
from edgequant.answers.questions import Question, load_questions
from edgequant.boards.profile import BoardProfile, load_profile
from edgequant.experiment.file import (
    EvaluationSection,
    Experiment,
    ModelSection,
    QuestionsSection,
)
from edgequant.experiment.question_files import find_question_file, shown
from edgequant.latency.predict.roofline import fits_in_ram
from edgequant.models.folder import check_model_folder
from edgequant.models.pull.pull import find_pulled
from edgequant.models.steps.quantize import bits_of, quantized_bytes

MIRROR_RATES = (10, 100, 1000)
"""Tokens per second, of all slots together: what a mirror does is known once it runs."""
BASE_TYPE = "F16"
# "Llama-3.1-8B-Instruct": what a folder that is not there says of its size.
_BILLIONS = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)B(?![A-Za-z0-9])", re.IGNORECASE)


@dataclass(frozen=True)
class Estimate:
    """What a sweep comes to; None where it is not known.

    Attributes:
        missing: what the experiment names and is not there, in words.
        questions: asked of every variant, each in its prompts.
        generations: answers that a mirror is asked for; a closed answer is two.
        tokens: of all of them together, at most.
        parameters: numbers in the model's weights.
        parameters_from_name: they are what the folder's name says.
        host_bytes: files of the 16-bit model and all variants.
        board_bytes: files of the variants.
        board_seconds: of measuring, at least: as long as reading the weights takes.
    """

    missing: tuple[str, ...]
    questions: int | None
    generations: int | None
    tokens: int | None
    parameters: int | None
    parameters_from_name: bool
    host_bytes: int | None
    board_bytes: int | None
    board_seconds: float | None

    @property
    def mirror_seconds(self) -> dict[int, float]:
        """Seconds of the answers by the tokens that the mirrors give in a second."""
        return {} if self.tokens is None else {r: self.tokens / r for r in MIRROR_RATES}

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        rates = {str(rate): seconds for rate, seconds in self.mirror_seconds.items()}
        return {**asdict(self), "mirror_seconds_by_tokens_per_second": rates}


def estimate(experiment: Experiment) -> Estimate:
    """What a sweep comes to.

    A model or question files that are not there make figures unknown; anything else that the
    experiment names has to be there.

    Raises:
        EdgequantError: a prompt, a board or a question file is wrong, or a prompt cannot be asked.
    """
    missing: list[str] = []
    sizes = _variant_bytes(experiment.model, missing)
    parameters, from_name = _parameters(experiment.model)
    variants = len(sizes)
    asked = _asked(experiment.evaluation, missing)
    bounds = answer_bounds(
        [(prompt, question) for prompt, question, _ in asked],
        experiment.evaluation.strategies,
        experiment.evaluation.max_tokens,
    )
    counts = [count for _, _, count in asked]
    known = None not in counts
    generations = sum(n * (c or 0) for (n, _), c in zip(bounds, counts, strict=True)) * variants
    tokens = sum(n * (c or 0) for (_, n), c in zip(bounds, counts, strict=True)) * variants
    board_bytes = _sum(sizes)
    ready = experiment.model.files or experiment.model.file
    base = 0 if ready else _bytes_of(parameters, BASE_TYPE)
    return Estimate(
        missing=tuple(missing),
        questions=sum(c or 0 for c in _per_task(asked)) if known else None,
        generations=generations if known else None,
        tokens=tokens if known else None,
        parameters=parameters,
        parameters_from_name=from_name,
        host_bytes=None if board_bytes is None or base is None else board_bytes + base,
        board_bytes=board_bytes,
        board_seconds=_board_seconds(experiment, load_profile(experiment.board.name), sizes),
    )


# Answers --------------------------------------------------------------------------------------

_Asked = tuple[Prompt, Question, int | None]
"""A prompt, a question that is asked in it, and of how many it stands for."""


def _asked(evaluation: EvaluationSection, missing: list[str]) -> list[_Asked]:
    asked: list[_Asked] = []
    count: int | None
    for name, section, prompts in _tasks(evaluation):
        if (path := find_question_file(section)) is not None:
            questions = load_questions(path, section.limit, name)
            question, count = questions[0], len(questions)
        else:
            missing.append(f"the questions {shown(section)}")
            # As many as are drawn, were the file that long.
            question, count = replace(_STAND_IN, task=name), section.limit
        asked += [(load_prompt(prompt), question, count) for prompt in prompts]
    return asked


def _tasks(
    evaluation: EvaluationSection,
) -> list[tuple[str | None, QuestionsSection, Sequence[str]]]:
    if evaluation.has_questions:
        return [(None, evaluation, evaluation.prompts)]
    return [(task.name, task, task.prompts or evaluation.prompts) for task in evaluation.task]


_STAND_IN = Question("", "?", "A", "", "choice", None, "?", ("a", "b", "c", "d"))


def _per_task(asked: Sequence[_Asked]) -> list[int | None]:
    """Each task's number of questions once, however many prompts ask them."""
    return list({id(question): count for _, question, count in asked}.values())


# Files ----------------------------------------------------------------------------------------


def _variant_bytes(model: ModelSection, missing: list[str]) -> dict[str, int | None]:
    if model.files:
        missing += [f"the file {path}" for path in model.files.values() if not path.exists()]
        return {
            name: path.stat().st_size if path.exists() else None
            for name, path in model.files.items()
        }
    if model.file:
        return _pulled_bytes(model)
    if model.folder is not None and not model.folder.is_dir():
        missing.append(f"the model {model.folder}")
    parameters, _ = _parameters(model)
    return {v.name: _bytes_of(parameters, v.steps[-1]) for v in model.variants()}


def _pulled_bytes(model: ModelSection) -> dict[str, int | None]:
    """Of the GGUF files that fit each pattern, where they were pulled before."""
    assert model.request is not None
    pulled = find_pulled(model.request)
    return {
        name: None if pulled is None else pulled.bytes_of(pattern)
        for name, pattern in model.file.items()
    }


def _parameters(model: ModelSection) -> tuple[int | None, bool]:
    if model.files or model.file:
        return None, False
    if model.folder is not None and model.folder.is_dir():
        return check_model_folder(model.folder).parameter_count, False
    if model.request is not None and (pulled := find_pulled(model.request)) is not None:
        return pulled.model_folder.parameter_count, False
    found = _BILLIONS.search(model.label)
    return (None, False) if found is None else (round(float(found[1]) * 1e9), True)


def _bytes_of(parameters: int | None, quantization: str) -> int | None:
    return None if parameters is None else quantized_bytes(parameters, bits_of(quantization))


def _sum(sizes: dict[str, int | None]) -> int | None:
    known = [size for size in sizes.values() if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _board_seconds(
    experiment: Experiment, profile: BoardProfile, sizes: dict[str, int | None]
) -> float | None:
    memory = profile.memory
    total = 0.0
    for size in sizes.values():
        if size is None or memory.ram_bytes is None:
            return None
        fits = fits_in_ram(size, memory.ram_bytes)
        rate = memory.dram_bytes_per_second if fits else profile.storage.bytes_per_second
        total += math.inf if rate is None else size / rate
    tokens = experiment.measure.tokens * experiment.measure.repeats
    return total * tokens if math.isfinite(total) else None
