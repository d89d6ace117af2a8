"""Importance matrices and mixes of types, on a tiny model with random weights."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from edgequant.core.artefact import Store
from edgequant.core.errors import QuantizationError
from edgequant.models import sensitivity
from edgequant.models.activations import squares
from edgequant.models.calibration import Calibration, Chat, Passage
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.importance import (
    COUNTS,
    SUMS,
    read_importance,
    write_importance,
)
from edgequant.models.formats.quantizer import Quantizer
from edgequant.models.make import find_variant, make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.probe import Probe
from edgequant.models.sensitivity import Weights
from edgequant.models.steps.mix import Mix
from edgequant.models.steps.step import StepContext
from edgequant.models.variant import Variant
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary
from tests.answers.mirrors.llama_server.tiny_llama import BOS, write_tiny_llama
from tests.integration import needs

pytestmark = [
    pytest.mark.integration,
    needs.BINDINGS,
]
WORDS = "the rain in spain stays mainly on the plain and nina reads ten letters at noon " * 4
CHATS = (Chat((("user", "the rain"),), "in spain"), Chat((("user", "nina reads"),), "ten"))
QUICK_TYPES = ("Q2_0", "Q4_0", "Q5_0", "Q8_0")


@pytest.fixture(scope="module")
def library(host_build: Any) -> Path:
    return Path(host_build.binary(LIBRARY_NAME))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    path = write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny-F32.gguf")
    return ModelFile.of_path("F32", path)


@pytest.fixture
def context(host_build: Any, tmp_path: Path) -> StepContext:
    calibration = Calibration((WORDS,), CHATS, tokens=256)
    return StepContext("tiny", host_build, Store(tmp_path / "store"), calibration)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sensitivity, "TYPES", QUICK_TYPES)
    yield


def test_the_matrix_is_llama_imatrix_s_of_the_same_tokens(
    base: ModelFile, host_build: Any, library: Path, tmp_path: Path
) -> None:
    program = host_build.binary("llama-imatrix")
    if not program.is_file():
        pytest.skip("this build has no llama-imatrix")
    length, text, theirs = 64, tmp_path / "words.txt", tmp_path / "theirs.gguf"
    text.write_text(WORDS)
    with Vocabulary(base.path, library) as vocabulary:
        ids = vocabulary.tokenize(WORDS, add_special=True)
    # It puts a BOS in the place of each chunk's first token.
    chunks = [(BOS, *ids[k : k + length][1:]) for k in range(0, len(ids) - length + 1, length)]
    options = ["-c", str(length), "-ctk", "f32", "-ctv", "f32", "-fa", "off", "-t", "1"]
    command = [str(program), "-m", str(base.path), "-f", str(text), "-o", str(theirs), *options]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    # Theirs names no architecture: the package reads it.
    tensors = {tensor.name: tensor.data for tensor in GGUFReader(theirs).tensors}
    expected = {
        name.removesuffix(SUMS): data / tensors[name.removesuffix(SUMS) + COUNTS]
        for name, data in tensors.items()
        if name.endswith(SUMS)
    }
    assert len(expected) == 14
    sums = squares(base.path, library, chunks, list(expected), threads=1)
    ours = tmp_path / "ours.imatrix"
    write_importance(ours, sums, dataset="words", passages=len(chunks), context=length)
    found = read_importance(ours)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].ravel(), values.ravel(), rtol=1e-3)
    # llama-quantize takes both alike.
    made = [tmp_path / "a.gguf", tmp_path / "b.gguf"]
    for matrix, out in zip((theirs, ours), made, strict=True):
        quantize = [host_build.binary("llama-quantize"), "--imatrix", matrix, base.path, out]
        subprocess.run([*map(str, quantize), "Q4_0"], check=True, capture_output=True)
    data = [np.fromfile(path, np.uint8, offset=read_gguf(path).data_offset) for path in made]
    # A sum's last bit may decide how a number is rounded.
    assert (data[0] == data[1]).mean() > 0.99


def test_the_step_s_matrix_goes_into_the_type_behind_it(
    base: ModelFile, context: StepContext, library: Path
) -> None:
    variant = Variant.of_steps("best", ["imatrix", "Q4_0"])
    assert find_variant(variant, base, context) is None
    made = make_variant(variant, base, context)
    plain = make_variant(Variant.of_type("Q4_0"), base, context)
    assert made.sha256 != plain.sha256
    assert made.importance is None
    found = find_variant(variant, base, context)
    assert found is not None
    assert found.path == made.path
    # The very bytes that ggml makes of the weights with that matrix.
    given = make_variant(Variant.of_steps("given", ["imatrix"]), base, context)
    assert given.importance is not None
    assert given.path == base.path
    weights = Weights(base.header, Quantizer(library), read_importance(given.importance.path))
    tensor = next(t for t in made.header.tensors if t.name == "blk.0.ffn_down.weight")
    data = np.fromfile(made.path, np.uint8, tensor.bytes, offset=tensor.offset)
    assert np.array_equal(weights.quantized(tensor.name, tensor.type).ravel(), data)
    # No path of this machine in it.
    assert made.header.metadata["quantize.imatrix.file"] == "tiny.imatrix"


def test_steps_that_need_calibration_say_so(base: ModelFile, context: StepContext) -> None:
    bare = StepContext("tiny", context.host, context.store)
    for step in ("imatrix", "mix:Q4_0"):
        with pytest.raises(QuantizationError, match="needs something to calibrate on"):
            make_variant(Variant.of_steps("x", [step]), base, bare)


def test_a_probe_puts_back_what_it_changed(base: ModelFile, library: Path) -> None:
    passages = [Passage((BOS, *range(10, 40)), 12), Passage((BOS, *range(50, 70)), 1)]
    weights = Weights(read_gguf(base.path), Quantizer(library), {})
    with Probe(base.path, library, passages, threads=1) as probe:
        assert {"token_embd.weight", "output.weight", "blk.1.attn_v.weight"} <= probe.weights
        coarse, fine = (
            probe.divergence({"blk.0.ffn_down.weight": weights.changed("blk.0.ffn_down.weight", t)})
            for t in ("Q2_0", "Q8_0")
        )
        assert coarse > fine > 0
        assert probe.divergence({}) == pytest.approx(0, abs=1e-6)
        with pytest.raises(ValueError, match="has 32768 bytes, not 3"):
            probe.divergence({"blk.0.ffn_down.weight": np.zeros(3, np.uint8)})


def test_a_mix_is_nearer_than_the_plain_type_and_no_larger(
    base: ModelFile, context: StepContext, library: Path
) -> None:
    mixed = make_variant(Variant.of_steps("mix", ["imatrix", "mix:Q4_0"]), base, context)
    plain = make_variant(Variant.of_type("Q4_0"), base, context)
    assert mixed.bytes <= plain.bytes
    assert len(mixed.contents.tensors) > 2
    assert {t.name: t.shape for t in mixed.header.tensors} == {
        t.name: t.shape for t in base.header.tensors
    }
    calibration = context.calibration
    assert calibration is not None
    with Vocabulary(base.path, library) as vocabulary:
        passages = calibration.counted_passages(vocabulary)
    weights = Weights(base.header, Quantizer(library), {})
    types = {t.name: t.type for t in plain.header.tensors if len(t.shape) > 1}
    with Probe(base.path, library, passages, threads=1) as probe:
        before = probe.divergence({n: weights.changed(n, t) for n, t in types.items()})
    assert mixed.artefact is not None
    after = mixed.artefact.manifest.details["divergence"]
    assert isinstance(after, float)
    assert after < before


def test_a_mix_keeps_to_the_variant_s_limit(base: ModelFile, context: StepContext) -> None:
    plain = make_variant(Variant.of_type("Q4_0"), base, context)
    limit = plain.bytes - 4096
    made = make_variant(Variant.of_steps("mix", ["mix"], max_bytes=limit), base, context)
    assert limit * 0.95 < made.bytes <= limit
    with pytest.raises(QuantizationError, match="the smallest types take"):
        make_variant(Variant.of_steps("mix", ["mix"], max_bytes=20_000), base, context)
    with pytest.raises(QuantizationError, match="needs a limit"):
        make_variant(Variant.of_steps("mix", ["mix"]), base, context)


def test_a_mix_comes_last_and_its_type_is_one() -> None:
    assert Mix("q4_k").type == "Q4_K_M"
    with pytest.raises(QuantizationError, match="unknown quantization type"):
        Variant.of_steps("x", ["mix:Q9"])
    with pytest.raises(QuantizationError, match="nothing can come after mix:Q2_K"):
        Variant.of_steps("x", ["mix:Q2_K", "Q2_K"])
