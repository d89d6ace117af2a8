"""Error-compensated rounding on ggml's grid, and the step that stores weights with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import QuantizationError
from edgequant.models import compensate as module
from edgequant.models.compensate import compensated, output_error
from edgequant.models.formats.codes import CODED
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.formats.rewrite import read_tensor
from edgequant.models.make import make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.gptq import Gptq
from edgequant.models.steps.step import StepContext
from edgequant.models.variant import Variant
from edgequant.models.vocabulary import LIBRARY_NAME
from tests.integration import needs
from tests.models.fixed_calibration import FixedCalibration
from tests.models.tiny_gguf import passages, write_llama

pytestmark = [
    pytest.mark.integration,
    needs.BINDINGS,
]


@pytest.fixture(scope="module")
def quantizer(host_build: Any) -> Quantizer:
    return Quantizer(host_build.binary(LIBRARY_NAME))


@pytest.fixture(scope="module")
def layer() -> tuple[Any, Any]:
    """A weight, and the products of inputs that depend on each other, as a model's do."""
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((600, 40)) @ rng.standard_normal((40, 512))
    inputs += 0.3 * rng.standard_normal(inputs.shape)
    return rng.standard_normal((24, 512)).astype(np.float32), inputs.T @ inputs


@pytest.mark.parametrize("kind", sorted(CODED | {"Q8_0", "IQ3_S"}))
def test_the_output_is_nearer_than_with_plain_rounding(
    kind: str, layer: tuple[Any, Any], quantizer: Quantizer
) -> None:
    values, products = layer
    made = compensated(values, products, kind, quantizer)
    weights = np.diagonal(products).astype(np.float32)
    plain = min(
        output_error(values - quantizer.rounded(values, kind, given), products)
        for given in (None, weights)
    )
    assert output_error(values - made.values, products) < 0.6 * plain
    # What is written is what was reckoned with.
    np.testing.assert_array_equal(quantizer.dequantize(made.data, kind, 512), made.values)


def test_going_over_the_codes_again_only_helps(
    layer: tuple[Any, Any], quantizer: Quantizer
) -> None:
    values, products = layer
    errors = [
        output_error(
            values - compensated(values, products, "Q2_K", quantizer, sweeps=sweeps).values,
            products,
        )
        for sweeps in (0, 1, 4)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_rows_do_not_depend_on_each_other(
    layer: tuple[Any, Any], quantizer: Quantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, products = layer
    whole = compensated(values, products, "Q3_K", quantizer)
    monkeypatch.setattr(module, "VALUES_AT_ONCE", 7 * 512)
    parts = compensated(values, products, "Q3_K", quantizer)
    # But for the last bits of sums, which may be taken in another order.
    assert (whole.data == parts.data).mean() > 0.95
    errors = [output_error(values - made.values, products) for made in (whole, parts)]
    assert abs(errors[0] - errors[1]) < 0.02 * errors[0]


def test_columns_that_are_never_used_are_no_trouble(quantizer: Quantizer) -> None:
    values = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    for products in (np.zeros((256, 256)), np.diag(np.repeat([1.0, 0.0], 128))):
        made = compensated(values, products, "Q4_K", quantizer)
        assert np.isfinite(made.values).all()
        assert np.abs(made.values - values)[:, :128].mean() < 0.1


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return ModelFile.of_path("F16", write_llama(path, layers=1, dtype=np.float16, outliers=True))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory, host_build: Any) -> StepContext:
    store = Store(tmp_path_factory.mktemp("store"))
    return StepContext("tiny", host_build, store, FixedCalibration(passages()))


@pytest.mark.parametrize("steps", [["gptq:Q2_K"], ["imatrix", "gptq:Q2_K"]])
def test_a_variant_has_the_types_and_bytes_of_plain_quantizing(
    steps: list[str], source: ModelFile, context: StepContext
) -> None:
    plain = make_variant(Variant.of_type("Q2_K"), source, context)
    made = make_variant(Variant.of_steps("x", steps), source, context)
    tensors = {t.name: t for t in plain.header.tensors}
    assert {t.name: (t.type, t.shape) for t in made.header.tensors} == {
        name: (t.type, t.shape) for name, t in tensors.items()
    }
    assert made.bytes <= plain.bytes
    assert made.header.file_type == "Q2_K"
    changed = {
        one.name
        for one in made.header.tensors
        if read_tensor(made.path, one).tobytes()
        != read_tensor(plain.path, tensors[one.name]).tobytes()
    }
    # Norms are copied, every weight is rounded otherwise.
    assert changed == {t.name for t in read_gguf(source.path).tensors if len(t.shape) > 1}


@pytest.mark.parametrize("word", ["imatrix", "gptq:gptq:imatrix", "nothing"])
def test_a_word_that_names_no_types_is_refused(word: str) -> None:
    with pytest.raises(QuantizationError):
        Gptq(word)


def test_without_a_calibration_it_is_refused(source: ModelFile, context: StepContext) -> None:
    from dataclasses import replace

    with pytest.raises(QuantizationError, match="needs something to calibrate on"):
        make_variant(
            Variant.of_steps("x", ["gptq:Q3_K_M"]), source, replace(context, calibration=None)
        )
