"""Steps by their words, and one that a package brings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import QuantizationError
from edgequant.experiment.file import ModelSection
from edgequant.models.make import find_variant, make_variant
from edgequant.models.model_file import ModelFile
from edgequant.models.steps import registry
from edgequant.models.steps.quantize import Quantize
from edgequant.models.steps.registry import step_named
from edgequant.models.steps.step import StepContext
from edgequant.models.variant import Variant
from tests.models.gguf_writer import TensorSpec, gguf
from tests.page_package import block, install

PAGE = "adding-a-step.md"
HEAD: dict[str, object] = {"general.architecture": "llama", "general.name": "tiny"}


class Host:
    """A build whose llama-quantize copies."""

    llama_cpp_commit = "0c1e57098"
    source: Any = None

    def __init__(self, folder: Path) -> None:
        self._program = folder / "llama-quantize"
        self._program.write_text('#!/bin/sh\ncp "$1" "$2"\n')
        self._program.chmod(0o755)

    def binary(self, name: str) -> Path:
        assert name == self._program.name
        return self._program


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(PAGE, "rename", tmp_path, monkeypatch)
    registry.other_steps.cache_clear()
    yield
    registry.other_steps.cache_clear()


@pytest.mark.usefixtures("package")
def test_the_page_s_step_is_made_and_found_again(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(gguf(HEAD, [TensorSpec("norm", (256,), "F32")]))
    base = ModelFile.of_path("F16", tmp_path / "tiny.gguf")
    host, store = Host(tmp_path), Store(tmp_path / "store")
    section = tomllib.loads(block(PAGE, "toml", 1))["model"]
    (variant,) = ModelSection.model_validate({"folder": "m", **section}).variants()
    context = StepContext("tiny", host, store)
    made = make_variant(variant, base, context)
    assert made.name == "Q8_0-renamed"
    assert made.path.name == "tiny-Q8_0.gguf"
    assert made.header.metadata["general.name"] == "a model of mine"
    assert [t.shape for t in made.header.tensors] == [t.shape for t in base.header.tensors]
    found = find_variant(variant, base, context)
    assert found is not None
    assert found.path == made.path
    alone = make_variant(Variant.of_steps("x", ["rename:a model of mine"]), base, context)
    assert alone.path.name == "renamed.gguf"
    assert len(list((tmp_path / "store" / "models").glob("*/manifest.json"))) == 2


@pytest.mark.usefixtures("package")
def test_what_stores_the_weights_comes_last() -> None:
    with pytest.raises(QuantizationError, match="nothing can come after Q8_0"):
        Variant.of_steps("x", ["Q8_0", "rename:y"])


@pytest.mark.usefixtures("package")
def test_a_word_that_nobody_knows_is_told_what_there_is() -> None:
    with pytest.raises(QuantizationError, match="'renam'") as raised:
        Variant.of_steps("x", ["renam"])
    assert (raised.value.next_step or "").endswith(", ".join(["F32", *registry.OWN, "rename"]))


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize(
    ("word", "said"), [("rename", "needs an argument"), ("Q8_0:x", "unknown quantization type")]
)
def test_a_word_with_the_wrong_argument_is_refused(word: str, said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        Variant.of_steps("x", [word])


def test_types_are_steps() -> None:
    assert step_named("Q2_K") == Quantize("Q2_K")


def test_a_step_called_as_a_type_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(PAGE, "rename", tmp_path, monkeypatch)
    points = tmp_path / "my_package-1.dist-info" / "entry_points.txt"
    points.write_text("[edgequant.steps]\nf16 = my_package.rename:Rename\n")
    registry.other_steps.cache_clear()
    try:
        with pytest.raises(QuantizationError, match="'f16'"):
            registry.other_steps()
    finally:
        registry.other_steps.cache_clear()
