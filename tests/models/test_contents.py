"""What a GGUF really holds, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.models.contents import (
    content_notes,
    describe_tensors,
    marked,
    read_contents,
    same_tensors,
)
from edgequant.models.formats.gguf import GgufInfo, read_gguf
from tests.models.gguf_writer import TensorSpec, gguf

TENSORS = (
    TensorSpec("blk.0.a", (576, 4), "Q4_0"),
    TensorSpec("blk.0.b", (576, 4), "Q4_0"),
    TensorSpec("blk.0.c", (768, 1), "Q3_K"),
    TensorSpec("norm", (576,), "F32"),
)


def model(
    folder: Path, name: str, tensors: tuple[TensorSpec, ...] = TENSORS, tail: bytes = b""
) -> GgufInfo:
    path = folder / f"{name}.gguf"
    whole = gguf({"general.architecture": "llama", "general.name": name}, tensors)
    path.write_bytes(whole[: len(whole) - len(tail)] + tail)
    return read_gguf(path)


def test_types_are_counted_and_weighed(tmp_path: Path) -> None:
    held = read_contents(model(tmp_path, "m"), "Q2_K")
    assert held.tensors == {"Q4_0": 2, "Q3_K": 1, "F32": 1}
    assert held.describe() == "2 Q4_0 (77 %), 1 Q3_K (13 %), 1 F32 (10 %)"
    assert held.weight_share["Q4_0"] == pytest.approx(4608 / 5952)
    assert not held.holds_named_type


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Q2_K", "Q2_K"),
        ("Q3_K_M", "Q3_K"),
        ("Q4_K_S", "Q4_K"),
        ("Q8_0", "Q8_0"),
        ("IQ2_S", "IQ2_XS"),
        ("IQ2_M", "IQ2_S"),
        ("IQ4_XS", "IQ4_XS"),
        ("BF16", "BF16"),
        ("my own", None),
    ],
)
def test_the_type_that_a_name_promises(tmp_path: Path, name: str, named: str | None) -> None:
    held = read_contents(model(tmp_path, "m"), name)
    assert held.named_type == named
    assert held.holds_named_type is (named is None or named in held.tensors)


def test_files_that_differ_in_metadata_alone_are_one(tmp_path: Path) -> None:
    infos = {
        "Q2_K": model(tmp_path, "first"),
        "Q3_K_S": model(tmp_path, "the second, with a longer name"),
        "other weights": model(tmp_path, "third", tail=b"\1"),
        "other types": model(tmp_path, "fourth", TENSORS[:2]),
        "again": model(tmp_path, "fifth"),
    }
    assert same_tensors(infos) == {"Q3_K_S": "Q2_K", "again": "Q2_K"}


def test_notes_say_what_a_name_hides(tmp_path: Path) -> None:
    info = model(tmp_path, "m")
    contents = {name: read_contents(info, name) for name in ("Q2_K", "Q4_0", "Q3_K_S")}
    notes = content_notes(contents, {"Q3_K_S": "Q2_K"}, {"Q4_0": 0, "Q3_K_S": 2})
    assert notes[0].startswith("Q2_K holds no Q2_K tensor: 2 Q4_0 (77 %), 1 Q3_K (13 %)")
    assert notes[1].startswith("Q3_K_S: 2 of 4 tensors fell back")
    assert notes[2].startswith("Q3_K_S and Q2_K have the very same tensors")
    assert len(notes) == 3


def test_small_and_unknown_shares() -> None:
    tensors = {"Q8_0": 3, "F32": 61}
    assert (
        describe_tensors(tensors, {"Q8_0": 0.999, "F32": 1e-3}) == "3 Q8_0 (100 %), 61 F32 (<1 %)"
    )
    assert describe_tensors(tensors, {}) == "3 Q8_0, 61 F32"


def test_a_name_is_marked_by_what_it_hides() -> None:
    assert marked("Q8_0", True, None) == "Q8_0"
    assert marked("Q2_K", False, None) == "Q2_K (name only)"
    assert marked("Q3_K_S", False, "Q2_K") == "Q3_K_S (name only) = Q2_K"
