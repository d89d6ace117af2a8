"""How far an experiment's variants lie from its 16-bit file: on texts, and on the run's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgequant.core.artefact import Store
from edgequant.models.calibration import Calibration
from edgequant.models.model_set import ModelSet
from edgequant.models.steps.step import HostBuild
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.experiment.file import QualitySection


def read_texts(section: QualitySection) -> dict[str, str]:
    """The experiment's texts by their files' names.

    Raises:
        DataSetError: one cannot be read, or is no UTF-8.
    """
    from edgequant.quality.inputs import load_texts

    loaded = load_texts(section.texts)
    return {path.name: loaded[str(path)] for path in section.texts}


def compare_variants(
    models: ModelSet,
    answers: Sequence[Mapping[str, Any]],
    section: QualitySection,
    *,
    host: HostBuild,
    calibration: Calibration | None,
    store: Store,
) -> pd.DataFrame:
    """The table of quality of an experiment.

    Args:
        models: the variants, with their 16-bit file.
        answers: rows of the run's table of answers; read where the section names whose.
        section: what is compared on.
        host: build of this machine's tools.
        calibration: what the variants were calibrated on.
        store: where scores are kept.

    Raises:
        DataSetError: a text is too short, or was calibrated on.
        DataFrameError: there are no such answers.
        ToolMissingError, ConversionError: they cannot be evaluated.
    """
    from edgequant.quality.inputs import answers_text, cut_texts, refuse_calibration
    from edgequant.quality.measure import measure_quality

    reference = models.base
    assert reference is not None, "an experiment with ready files has no such section"
    with Vocabulary(reference.path, host.binary(LIBRARY_NAME)) as vocabulary:
        texts = cut_texts(read_texts(section), vocabulary, context=section.context)
        if section.answers_of is not None:
            whose = section.answers_of
            texts.append(
                answers_text(answers, reference, vocabulary, whose=whose, limit=section.limit)
            )
        if calibration is not None:
            refuse_calibration(calibration, texts, vocabulary)
    return measure_quality(reference, list(models), texts, host=host, store=store)
