"""ggml's quantizers in process: the very bytes that llama-quantize writes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgequant.core.errors import QuantizationError
from edgequant.models.formats.gguf import Tensor, read_gguf
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.formats.rewrite import read_tensor
from edgequant.models.vocabulary import LIBRARY_NAME
from tests.integration import needs
from tests.models.tiny_gguf import write_llama

pytestmark = [
    pytest.mark.integration,
    needs.BINDINGS,
]

TYPES = (
    *("Q2_K", "Q3_K_M", "Q4_0", "Q4_1", "Q4_K_M", "Q5_0", "Q5_K_M", "Q8_0"),
    *("IQ3_S", "IQ4_NL", "IQ4_XS", "F16", "BF16"),
)


@pytest.fixture(scope="module")
def quantizer(host_build: Any) -> Quantizer:
    return Quantizer(host_build.binary(LIBRARY_NAME))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf", feed_forward=256, layers=1)


@pytest.fixture(scope="module")
def importance(source: Path) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {
        t.name: rng.exponential(size=t.shape[0]).astype(np.float32)
        for t in read_gguf(source).tensors
        if len(t.shape) > 1
    }


def write_imatrix(path: Path, importance: dict[str, Any]) -> Path:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "imatrix")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["x"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in importance.items():
        writer.add_tensor(f"{name}.in_sum2", values[None])
        writer.add_tensor(f"{name}.counts", np.ones((1, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantized_tensors(path: Path) -> Iterator[Tensor]:
    return (t for t in read_gguf(path).tensors if len(t.shape) > 1)


def floats(path: Path, tensor: Tensor) -> Any:
    return read_tensor(path, tensor).view(np.float32)


@pytest.mark.parametrize(
    ("kind", "weighed"),
    [
        *((kind, weighed) for kind in TYPES for weighed in (False, True)),
        # The tables of these types alone take seconds to make.
        pytest.param("IQ2_XXS", True, marks=pytest.mark.slow),
        pytest.param("IQ2_M", True, marks=pytest.mark.slow),
        pytest.param("IQ3_XXS", True, marks=pytest.mark.slow),
    ],
)
def test_bytes_are_those_of_llama_quantize(
    kind: str,
    weighed: bool,
    source: Path,
    importance: dict[str, Any],
    quantizer: Quantizer,
    host_build: Any,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.gguf"
    program: list[Any] = [host_build.binary("llama-quantize")]
    if weighed:
        program += ["--imatrix", write_imatrix(tmp_path / "imatrix.gguf", importance)]
    subprocess.run([*program, source, out, kind, "2"], check=True, capture_output=True)
    before = {t.name: t for t in quantized_tensors(source)}
    types = set()
    for tensor in quantized_tensors(out):
        types.add(tensor.type)
        values = floats(source, before[tensor.name])
        weights = importance[tensor.name] if weighed else None
        own = quantizer.quantize(values, tensor.type, weights)
        assert own.tobytes() == read_tensor(out, tensor).tobytes(), tensor
        back = quantizer.dequantize(own, tensor.type, tensor.shape[0])
        assert np.abs(back - values).mean() < 0.7 * np.abs(values).mean()
    named = "IQ2_S" if kind == "IQ2_M" else kind
    assert any(named.startswith(found) for found in types), types


def test_the_inverse_is_that_of_the_gguf_package(quantizer: Quantizer, source: Path) -> None:
    from gguf import GGMLQuantizationType, dequantize

    values = floats(source, next(quantized_tensors(source)))
    for kind in ("Q2_K", "Q3_K", "Q4_0", "Q6_K", "IQ3_S", "IQ4_XS", "BF16", "F16", "F32"):
        data = quantizer.quantize(values, kind)
        own = quantizer.dequantize(data, kind, values.shape[1])
        np.testing.assert_allclose(own, dequantize(data, GGMLQuantizationType[kind]), rtol=1e-6)


def test_what_cannot_be_quantized_is_refused(quantizer: Quantizer) -> None:
    ones = np.ones((2, 256), np.float32)
    for values, kind, weights, said in (
        (ones[:, :200], "Q2_K", None, "not whole blocks"),
        (ones, "Q9_K", None, "no type"),
        (ones, "IQ2_XXS", None, "needs an importance"),
        (ones * np.nan, "Q2_K", None, "NaN"),
        (ones * 1e38, "Q2_K", None, "too large"),
        (ones, "Q2_K", ones[0, :9], "importance of"),
    ):
        with pytest.raises(QuantizationError, match=said):
            quantizer.quantize(values, kind, weights)
    with pytest.raises(QuantizationError, match="are not rows"):
        quantizer.dequantize(np.zeros((2, 80), np.uint8), "Q2_K", 256)
