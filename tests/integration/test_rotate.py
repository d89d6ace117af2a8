"""Turned channels: the model computes what it did, and its outliers are gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import QuantizationError
from edgequant.models.activations import squares
from edgequant.models.make import make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.rotate import TURNED, Rotate
from edgequant.models.steps.step import StepContext
from edgequant.models.variant import Variant
from edgequant.models.vocabulary import LIBRARY_NAME
from tests.integration import needs
from tests.models.tiny_gguf import logits, passages, write_llama

pytestmark = [
    pytest.mark.integration,
    needs.BINDINGS,
]


@pytest.fixture
def context(tmp_path: Path, host_build: Any) -> StepContext:
    return StepContext("tiny", host_build, Store(tmp_path / "store"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", TURNED)
# 96 has a Hadamard matrix (8 times 12), 184 has none here.
@pytest.mark.parametrize("hidden", [96, 184])
def test_logits_are_equal(
    architecture: str, tied: bool, hidden: int, tmp_path: Path, context: StepContext
) -> None:
    library = context.host.binary(LIBRARY_NAME)
    path = write_llama(
        *(tmp_path / "tiny.gguf", architecture),
        hidden=hidden,
        feed_forward=128,
        outliers=True,
        tied=tied,
    )
    source = ModelFile.of_path("F32", path)
    made = make_variant(Variant.of_steps("x", ["rotate"]), source, context)
    before, after = logits(path, library), logits(made.path, library)
    assert np.linalg.norm(after - before) < 1e-4 * np.linalg.norm(before)
    assert {t.name for t in made.header.tensors} - {t.name for t in source.header.tensors} == (
        {"output.weight"} if tied else set()
    )
    name = "blk.1.ffn_gate.weight"
    spread = []
    for file in (source, made):
        sums = squares(file.path, library, passages(2), [name])[name].values[0]
        spread.append(float(sums.max() / sums.mean()))
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.parametrize("architecture", ["gemma2", "phi3"])
def test_others_are_refused_by_name(
    architecture: str, tmp_path: Path, context: StepContext
) -> None:
    path = write_llama(tmp_path / "tiny.gguf", hidden=64, feed_forward=64, layers=1)
    source = ModelFile.of_path("F32", path)
    other = replace(source, header=replace(source.header, architecture=architecture))
    with pytest.raises(QuantizationError, match=f"does not know the architecture {architecture}"):
        Rotate().recipe(other, context)
