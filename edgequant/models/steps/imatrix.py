"""An importance matrix of a model: how large each column's inputs are on the calibration's tokens.

Made in this process, on token ids of our own: llama-imatrix reads chat markers as plain letters,
unless told otherwise, and cuts a text into chunks that begin anywhere.
"""

from __future__ import annotations

from edgequant.core.artefact import ArtefactDraft, Recipe
from edgequant.core.progress import task
from edgequant.models.activations import squares
from edgequant.models.calibration import DEFAULT_CONTEXT
from edgequant.models.formats.importance import write_importance
from edgequant.models.model_file import IMPORTANCE_SUFFIX, ModelFile
from edgequant.models.steps.step import STAGE, StepContext
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary

# Raise it when a change here makes other files from the same inputs.
RECIPE = 1
WORD = "imatrix"


class Imatrix:
    """The step ``imatrix``: the same model, with an importance matrix for the steps to come."""

    def recipe(self, source: ModelFile, context: StepContext) -> Recipe:
        """See :meth:`edgequant.models.steps.step.Step.recipe`.

        Raises:
            QuantizationError: there is nothing to calibrate on.
        """
        calibration = context.calibration_for(WORD)
        parameters: dict[str, object] = {
            "step": WORD,
            "recipe": RECIPE,
            "context": DEFAULT_CONTEXT,
            "llama_cpp_commit": context.host.llama_cpp_commit,
        }
        inputs = {"gguf": source.sha256, "calibration": calibration.sha256}
        return Recipe(STAGE, inputs, parameters, context.host.llama_cpp_commit)

    def make(self, source: ModelFile, context: StepContext, draft: ArtefactDraft) -> None:
        """See :meth:`edgequant.models.steps.step.Step.make`.

        Raises:
            ToolMissingError: llama-cpp-python or the library is missing.
            ConversionError: llama.cpp cannot evaluate the model, or it has no chat template.
        """
        calibration = context.calibration_for(WORD)
        library = context.host.binary(LIBRARY_NAME)
        with Vocabulary(source.path, library) as vocabulary:
            passages = calibration.passages(vocabulary)
        weights = [t.name for t in source.header.tensors if t.name.endswith("weight")]
        with (
            draft.timed(WORD),
            task(f"Importance matrix of {context.model}", total=len(passages)) as shown,
        ):
            sums = squares(source.path, library, passages, weights, on_passage=shown.advance)
        write_importance(
            draft.folder / f"{context.model}{IMPORTANCE_SUFFIX}",
            sums,
            dataset=calibration.sha256,
            passages=len(passages),
            context=DEFAULT_CONTEXT,
        )
        draft.manifest.details |= {
            "weights": len(sums),
            "passages": len(passages),
            "tokens": sum(map(len, passages)),
        }
