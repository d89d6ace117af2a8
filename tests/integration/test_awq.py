"""Scales folded into a model: it computes what it did, and is rounded better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import QuantizationError
from edgequant.models.activations import samples
from edgequant.models.float_weights import FloatWeights
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.graph import FOLDED, folds
from edgequant.models.make import make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.awq import Awq, Scaled, int4
from edgequant.models.steps.step import StepContext
from edgequant.models.variant import Variant
from edgequant.models.vocabulary import LIBRARY_NAME
from tests.integration import needs
from tests.models.fixed_calibration import FixedCalibration
from tests.models.tiny_gguf import logits, passages, write_llama

pytestmark = [
    pytest.mark.integration,
    needs.BINDINGS,
]


@pytest.fixture
def context(tmp_path: Path, host_build: Any) -> StepContext:
    return StepContext("tiny", host_build, Store(tmp_path), FixedCalibration(passages(2)))


def relative_error(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("architecture", FOLDED)
def test_any_scales_leave_the_model_as_it_is(
    architecture: str, tmp_path: Path, host_build: Any
) -> None:
    library = host_build.binary(LIBRARY_NAME)
    path = write_llama(
        tmp_path / "tiny.gguf", architecture, hidden=64, feed_forward=96, outliers=True
    )
    scaled = Scaled(FloatWeights(read_gguf(path), Quantizer(library)))
    rng = np.random.default_rng(5)
    for layer in folds(read_gguf(path)):
        for fold in layer:
            rows = next(t.shape for t in read_gguf(path).tensors if t.name == fold.writers[0])[-1]
            scaled.add(fold, np.exp(rng.standard_normal(rows)).astype(np.float32))
    out = scaled.write(tmp_path / "out.gguf").path
    changed = {
        t.name
        for t in read_gguf(path).tensors
        if not np.array_equal(
            FloatWeights(read_gguf(path), Quantizer(library)).read(t.name),
            FloatWeights(read_gguf(out), Quantizer(library)).read(t.name),
        )
    }
    assert {f"blk.1.{n}.weight" for n in ("attn_norm", "attn_output", "ffn_down")} <= changed
    assert relative_error(logits(out, library), logits(path, library)) < 1e-4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return ModelFile.of_path("F32", write_llama(path, layers=1, outliers=True))


def output_errors(path: Path, library: Path, rounding: Any) -> dict[str, float]:
    """How far each product is from its own after rounding its weight, on rows of its inputs."""
    weights = FloatWeights(read_gguf(path), Quantizer(library))
    names = [t.name for t in read_gguf(path).tensors if t.name.startswith("blk.0.attn_q")]
    names += [f"blk.0.{part}.weight" for part in ("attn_v", "ffn_gate", "ffn_down")]
    inputs = samples(path, library, passages(2), names, rows=96)
    return {
        name: relative_error(rows @ rounding(weights.read(name)).T, rows @ weights.read(name).T)
        for name, rows in inputs.items()
    }


@pytest.mark.parametrize(("word", "last"), [("awq", "Q4_0"), ("awq:int4", "F32")])
def test_the_chosen_scales_help(
    word: str, last: str, source: ModelFile, context: StepContext
) -> None:
    library = context.host.binary(LIBRARY_NAME)
    quantizer = Quantizer(library)

    def rounding(values: Any) -> Any:
        return int4(values) if word == "awq:int4" else quantizer.rounded(values, "Q4_0")

    step = Awq(*word.split(":")[1:])
    own = replace(context, rest=(last,))
    made = context.store.get_or_make(
        step.recipe(source, own), lambda draft: step.make(source, own, draft)
    )
    scaled = ModelFile.of_artefact("x", made)
    assert relative_error(logits(scaled.path, library), logits(source.path, library)) < 1e-4
    before = output_errors(source.path, library, rounding)
    after = output_errors(scaled.path, library, rounding)
    assert all(after[name] < 1.02 * error for name, error in before.items())
    # There the outliers are.
    assert after["blk.0.attn_q.weight"] < 0.8 * before["blk.0.attn_q.weight"]
    assert after["blk.0.ffn_gate.weight"] < 0.8 * before["blk.0.ffn_gate.weight"]


def test_what_awq_cannot_do_is_refused(
    source: ModelFile, context: StepContext, tmp_path: Path
) -> None:
    with pytest.raises(QuantizationError, match="none follows"):
        make_variant(Variant.of_steps("x", ["awq"]), source, context)
    with pytest.raises(QuantizationError, match="no objective 'int3'"):
        Awq("int3")
    other = replace(source, header=replace(source.header, architecture="gpt2"))
    with pytest.raises(QuantizationError, match="does not know the architecture gpt2"):
        Awq("int4").recipe(other, context)
    with pytest.raises(QuantizationError, match="needs something to calibrate on"):
        Awq("int4").recipe(source, replace(context, calibration=None))


def test_int4_has_sixteen_values_in_each_group() -> None:
    values = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    groups = int4(values).reshape(-1, 128)
    assert max(len(np.unique(group)) for group in groups) <= 16
    spread = values.reshape(-1, 128).max(axis=1) - values.reshape(-1, 128).min(axis=1)
    assert (np.abs(groups - values.reshape(-1, 128)).max(axis=1) <= spread / 15 * 1.01).all()
    # 96 columns are no whole groups of 128: of 32 they are.
    assert int4(values[:, :96]).shape == (4, 96)
