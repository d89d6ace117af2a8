"""The prompt that the board is measured with: one that the model is really asked."""

from __future__ import annotations

from pathlib import Path

from edgequant.answers.prompts import chatml
from edgequant.experiment.file import Experiment
from edgequant.experiment.inputs import Inputs
from edgequant.models.model_set import ModelSet


def measured_prompt(experiment: Experiment, inputs: Inputs, models: ModelSet, library: Path) -> str:
    """One question under the first prompt: the same one when more questions are drawn.

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
    prompt = inputs.prompts[0]
    asked = (question for other, question in inputs.asked() if other is prompt)
    # As questions are drawn: the first of every draw is the first of a larger one.
    question = min(asked, key=lambda question: question.sha256)
    request = evaluation.strategies[0].requests(prompt, question, evaluation.max_tokens)[0]
    if evaluation.wrapper == "chatml":
        return chatml(request.messages)
    from edgequant.models.vocabulary import Vocabulary

    with Vocabulary(next(iter(models)).path, library) as vocabulary:
        return vocabulary.apply_template([dict(turn) for turn in request.messages])
