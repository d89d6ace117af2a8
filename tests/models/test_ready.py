"""GGUF files that are there already: what is taken in, and what is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgequant.core.artefact import Store
from edgequant.core.errors import GgufError, QuantizationError
from edgequant.models.ready import take_in
from tests.models.gguf_writer import TensorSpec, gguf

TENSORS = (TensorSpec("token_embd.weight", (256, 8), "Q8_0"), TensorSpec("norm", (256,)))
METADATA: dict[str, object] = {
    "general.architecture": "llama",
    "general.file_type": 7,
    "llama.block_count": 1,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": [f"t{number}" for number in range(8)],
}


def write(path: Path, tensors: tuple[TensorSpec, ...] = TENSORS, **changes: object) -> Path:
    metadata = METADATA | {key.replace("__", "."): value for key, value in changes.items()}
    kept = {key: value for key, value in metadata.items() if value is not None}
    path.write_bytes(gguf(kept, tensors))
    return path


def test_files_become_variants(tmp_path: Path) -> None:
    first = write(tmp_path / "a.gguf")
    second = write(tmp_path / "b.gguf", general__name="b")
    models = take_in({"one": first, "two": second}, name="mine", store=Store(tmp_path / "s"))
    assert models.names == ("one", "two")
    assert models.table[1].same_as == "one"
    assert models.inputs == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general__type": "adapter"}, "of type 'adapter', not a model"),
        ({"tokenizer__ggml__model": None}, "has no tokenizer"),
        ({"tensors": ()}, "vocabulary only"),
        ({"split__count": 2}, "its name does not say which"),
    ],
)
def test_what_no_program_can_answer_with_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = write(tmp_path / "odd.gguf", **changes)  # type: ignore[arg-type]
    with pytest.raises(GgufError, match=message):
        take_in({"x": path}, name="mine", store=Store(tmp_path / "s"))


def test_a_part_that_belongs_to_another_model_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "m-00001-of-00002.gguf", split__count=2, split__no=0)
    write(tmp_path / "m-00002-of-00002.gguf", split__count=3, split__no=1)
    with pytest.raises(GgufError, match="calls itself part 1 of 3"):
        take_in({"x": first}, name="mine", store=Store(tmp_path / "s"))


def test_parts_hold_as_many_tensors_as_the_first_one_tells(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {"split__count": 2, "split__tensors__count": 5}
    first = write(tmp_path / "m-00001-of-00002.gguf", split__no=0, **tensors)
    write(tmp_path / "m-00002-of-00002.gguf", split__no=1, **tensors)
    with pytest.raises(GgufError, match="tells of 5 tensors in all parts, and they hold 4"):
        take_in({"x": first}, name="mine", store=Store(tmp_path / "s"))


def test_a_part_alone_names_those_that_are_missing(tmp_path: Path) -> None:
    first = write(tmp_path / "m-00001-of-00003.gguf", split__count=3, split__no=0)
    with pytest.raises(GgufError, match=r"one of 3 parts, and 2 are missing: m-00002.*m-00003"):
        take_in({"x": first}, name="mine", store=Store(tmp_path / "s"))


def test_variants_of_two_models_are_not_compared(tmp_path: Path) -> None:
    first = write(tmp_path / "a.gguf")
    other = write(tmp_path / "b.gguf", llama__block_count=2)
    with pytest.raises(GgufError, match=r"not the same model as a\.gguf"):
        take_in({"one": first, "two": other}, name="mine", store=Store(tmp_path / "s"))


def test_names_are_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.gguf")
    with pytest.raises(QuantizationError, match="no name of a variant"):
        take_in({"../x": path}, name="mine", store=Store(tmp_path / "s"))
    with pytest.raises(QuantizationError, match="no files"):
        take_in({}, name="mine", store=Store(tmp_path / "s"))
