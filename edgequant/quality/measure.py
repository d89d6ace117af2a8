"""Every variant against the 16-bit file on every text; each pair is an artefact of its own.

So an interrupted run goes on with the variants it was at. The reference and as many variants as fit
into memory read the same few places side by side, so that the reference is evaluated once for all
of them and no logits are kept: an artefact holds five values for each counted token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgequant.core.artefact import Artefact, ArtefactDraft, Recipe, Store
from edgequant.core.host import available_memory_bytes, free_cores
from edgequant.core.probabilities import log_softmax
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
MEMORY_SHARE = 0.6
"""Of the memory that is available, what all models that are evaluated together may take."""
CONTEXT_BYTES = 256 << 20
"""About what a context and its logits take beside the weights."""


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
        threads: of the CPU, by default one for each free core.
        store: where scores are kept, by default the cache.

    Raises:
        ToolMissingError: llama-cpp-python or the library is missing.
        ConversionError: llama.cpp cannot evaluate one of the files.
    """
    store = store if store is not None else Store()
    threads = threads or free_cores()
    rows = []
    for text in texts:
        scores = all_scores(reference, variants, text, host, store, threads=threads)
        found = zip(variants, scores, strict=True)
        rows += mark_front([_row(text, reference, v, summarize(own)) for v, own in found])
    return make_table(rows, QUALITY)


def all_scores(
    reference: ModelFile,
    variants: Sequence[ModelFile],
    text: Text,
    host: HostBuild,
    store: Store,
    *,
    threads: int,
) -> list[TokenScores]:
    """The scores of all counted tokens, found or made, for each variant.

    The reference is evaluated once for as many variants as fit into memory beside it.

    Raises:
        ToolMissingError, ConversionError: as :func:`measure_quality`.
    """
    recipes = {v.sha256: _recipe(reference, v, text, host) for v in variants}
    missing = {v.sha256: v for v in variants if store.find(recipes[v.sha256]) is None}
    library = host.binary(LIBRARY_NAME)
    room = int(available_memory_bytes() * MEMORY_SHARE) - memory_of(reference)
    for group in groups_that_fit(list(missing.values()), room):
        made = _evaluate(reference, group, text, library, threads)
        for variant, scores in zip(group, made, strict=True):
            keep = partial(_keep, scores, variant.name, text.name)
            store.get_or_make(recipes[variant.sha256], keep)
    return [_load(store.find(recipes[v.sha256])) for v in variants]


def groups_that_fit(variants: Sequence[ModelFile], room: int) -> list[list[ModelFile]]:
    """Variants in groups, each of as many as fit into memory, and of one at least.

    Args:
        variants: in their order.
        room: bytes of memory for one group.
    """
    groups: list[list[ModelFile]] = []
    left = 0
    for variant in variants:
        needed = memory_of(variant)
        if not groups or needed > left:
            groups.append([])
            left = room
        groups[-1].append(variant)
        left -= needed
    return groups


def memory_of(file: ModelFile) -> int:
    """About the bytes that evaluating a model takes, rather more than fewer."""
    # Weights that are laid out anew for this CPU are there twice.
    return 2 * file.bytes + CONTEXT_BYTES


def _recipe(reference: ModelFile, variant: ModelFile, text: Text, host: HostBuild) -> Recipe:
    return Recipe(
        STAGE,
        inputs={
            "reference": reference.sha256, "variant": variant.sha256, "text": text.sha256,
        },
        parameters={"recipe": RECIPE, "llama_cpp_commit": host.llama_cpp_commit},
        llama_cpp_commit=host.llama_cpp_commit,
    )  # fmt: skip


def _keep(scores: TokenScores, variant: str, text: str, draft: ArtefactDraft) -> None:
    np.savez(draft.folder / SCORES_NAME, allow_pickle=False, **vars(scores))
    draft.manifest.details.update(variant=variant, text=text, tokens=len(scores))


def _load(made: Artefact | None) -> TokenScores:
    assert made is not None
    with np.load(made.file(SCORES_NAME), allow_pickle=False) as kept:
        return TokenScores(**{name: kept[name] for name in TokenScores.__dataclass_fields__})


def _evaluate(
    reference: ModelFile,
    variants: Sequence[ModelFile],
    text: Text,
    library: Path,
    threads: int,
) -> list[TokenScores]:
    parts: list[list[TokenScores]] = [[] for _ in variants]
    names = ", ".join(variant.name for variant in variants)
    with ExitStack() as stack:
        models = [
            stack.enter_context(
                LogitsModel(file.path, library, context=text.longest, threads=threads)
            )
            for file in (reference, *variants)
        ]
        progress = stack.enter_context(
            task(f"Comparing {names} on {text.name}", total=len(text.passages))
        )
        for number, passage in enumerate(text.passages):
            # Batch by batch: no more logits are held than one model's and the reference's.
            own, *others = [model.read(passage) for model in models]
            for logits, following in own:
                log_p = log_softmax(logits)
                for kept, other in zip(parts, others, strict=True):
                    log_q = log_softmax(next(other)[0])
                    kept.append(compare(log_p, log_q, following, number))
            progress.advance()
    return [concatenate(kept) for kept in parts]


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
