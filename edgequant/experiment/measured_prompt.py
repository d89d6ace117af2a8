"""The prompt that the board is measured with: one that the model is really asked."""

from __future__ import annotations

from pathlib import Path

from edgequant.answers.prompts import chatml
from edgequant.experiment.file import Experiment
from edgequant.experiment.inputs import Inputs
from edgequant.models.model_set import ModelSet


def measured_prompt(experiment: Experiment, inputs: Inputs, models: ModelSet, library: Path) -> str:
    """The first question under the first prompt: the same one when more questions are added.

    Rendered in this process, so that the board need not wait for a mirror.

    Args:
        experiment: says how prompts are put.
        inputs: prompts and questions.
        models: the first one's template is used.
        library: the host build's ``libllama.so``.

    Raises:
        ConversionError: the model has no chat template, or it refuses the turns.
    """
    evaluation = experiment.evaluation
    question = inputs.questions[0].question
    request = evaluation.strategies[0].requests(inputs.prompts[0], question, evaluation.max_tokens)[
        0
    ]
    if evaluation.wrapper == "chatml":
        return chatml(request.messages)
    from edgequant.models.vocabulary import Vocabulary

    with Vocabulary(next(iter(models)).path, library) as vocabulary:
        return vocabulary.apply_template([dict(turn) for turn in request.messages])
