"""Every variant against the 16-bit file on every text; each pair is an artefact of its own.

So an interrupted run goes on with the variant it was at. Both models read the same few places side
by side, so that no logits are kept: an artefact holds five values for each counted token.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgequant.core.artefact import ArtefactDraft, Recipe, Store
from edgequant.core.progress import task
from edgequant.core.schemas import QUALITY
from edgequant.core.tables import make_table
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import HostBuild
from edgequant.models.vocabulary import LIBRARY_NAME
from edgequant.quality.divergence import TokenScores, compare, concatenate
from edgequant.quality.logits import LogitsModel
from edgequant.quality.passages import Text
from edgequant.quality.statistics import Summary, summarize

if TYPE_CHECKING:
    import pandas as pd

STAGE = "quality"
RECIPE = 1
"""Raise it when other scores come out of the same inputs."""
SCORES_NAME = "tokens.npz"


def measure_quality(
    reference: ModelFile,
    variants: Sequence[ModelFile],
    texts: Sequence[Text],
    *,
    host: HostBuild,
    threads: int | None = None,
    store: Store | None = None,
) -> pd.DataFrame:
    """The table of quality: one row for each text and variant.

    Args:
        reference: the 16-bit file.
        variants: of the same model, at least one.
        texts: at least one.
        host: build of this machine's tools.
        threads: of the CPU, by default one for each core.
        store: where scores are kept, by default the cache.

    Raises:
        ToolMissingError: llama-cpp-python or the library is missing.
        ConversionError: llama.cpp cannot evaluate one of the files.
    """
    store = store if store is not None else Store()
    threads = threads or len(os.sched_getaffinity(0))
    rows = []
    for text in texts:
        own = []
        for variant in variants:
            scores = pair_scores(reference, variant, text, host, store, threads=threads)
            own.append(_row(text, reference, variant, summarize(scores)))
        rows += mark_front(own)
    return make_table(rows, QUALITY)


def pair_scores(
    reference: ModelFile,
    variant: ModelFile,
    text: Text,
    host: HostBuild,
    store: Store,
    *,
    threads: int,
) -> TokenScores:
    """The scores of all counted tokens, found or made; raises as :func:`measure_quality`."""
    recipe = Recipe(
        STAGE,
        inputs={
            "reference": reference.sha256, "variant": variant.sha256, "text": text.sha256,
        },
        parameters={"recipe": RECIPE, "llama_cpp_commit": host.llama_cpp_commit},
        llama_cpp_commit=host.llama_cpp_commit,
    )  # fmt: skip
    library = host.binary(LIBRARY_NAME)

    def make(draft: ArtefactDraft) -> None:
        scores = _evaluate(reference, variant, text, library, threads)
        np.savez(draft.folder / SCORES_NAME, allow_pickle=False, **vars(scores))
        draft.manifest.details.update(variant=variant.name, text=text.name, tokens=len(scores))

    made = store.get_or_make(recipe, make)
    with np.load(made.file(SCORES_NAME), allow_pickle=False) as kept:
        return TokenScores(**{name: kept[name] for name in TokenScores.__dataclass_fields__})


def _evaluate(
    reference: ModelFile, variant: ModelFile, text: Text, library: Path, threads: int
) -> TokenScores:
    parts = []
    with (
        LogitsModel(reference.path, library, context=text.longest, threads=threads) as first,
        LogitsModel(variant.path, library, context=text.longest, threads=threads) as second,
        task(f"Comparing {variant.name} on {text.name}", total=len(text.passages)) as progress,
    ):
        for number, passage in enumerate(text.passages):
            for (own, following), (other, _) in zip(
                first.read(passage), second.read(passage), strict=True
            ):
                parts.append(compare(own, other, following, number))
            progress.advance()
    return concatenate(parts)


def _row(text: Text, reference: ModelFile, variant: ModelFile, found: Summary) -> dict[str, Any]:
    means = ("perplexity", "reference_perplexity", "perplexity_ratio", "divergence", "same_top")
    row: dict[str, Any] = {
        "text": text.name,
        "quantization": variant.name,
        "bytes": variant.bytes,
        "bits_per_weight": variant.bits_per_weight,
        **{k: v for k, v in asdict(found).items() if k not in means},
        "reference_sha256": reference.sha256,
        "model_sha256": variant.sha256,
        "text_sha256": text.sha256,
    }
    for name in means:
        mean = getattr(found, name)
        row |= {name: mean.value, f"{name}_error": mean.error}
    return row


def mark_front(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one text, with ``on_front``: no other is as small and as near, and better in one.

    Args:
        rows: with ``bytes`` and ``divergence``.
    """
    costs = [(row["bytes"], row["divergence"]) for row in rows]
    return [
        {
            **row,
            "on_front": not any(
                other != own and other[0] <= own[0] and other[1] <= own[1] for other in costs
            ),
        }
        for row, own in zip(rows, costs, strict=True)
    ]
