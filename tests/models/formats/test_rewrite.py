"""A GGUF written anew: the same where nothing is changed, and only that where something is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgequant.core.errors import GgufError
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.formats.rewrite import NewTensor, read_tensor, rewrite
from tests.models.gguf_writer import TensorSpec, gguf
from tests.models.tiny_gguf import write_llama

METADATA = {
    "general.architecture": "llama",
    "general.file_type": 1,
    "llama.block_count": 1,
    "tokenizer.ggml.tokens": [f"t{i}" for i in range(100)],
    "x.ratio": 0.5,
    "x.flag": True,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "source.gguf", hidden=32, feed_forward=64, layers=1)


def tensor_bytes(path: Path) -> dict[str, bytes]:
    return {t.name: read_tensor(path, t).tobytes() for t in read_gguf(path).tensors}


def test_nothing_changed_is_the_same_file(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    rewrite(source, out)
    before, after = read_gguf(source), read_gguf(out)
    assert dict(after.metadata) == dict(before.metadata)
    assert [(t.name, t.shape, t.type) for t in after.tensors] == [
        (t.name, t.shape, t.type) for t in before.tensors
    ]
    assert tensor_bytes(out) == tensor_bytes(source)


def test_every_kind_of_metadata_is_copied_byte_for_byte(tmp_path: Path) -> None:
    for alignment in (32, 64):
        source = tmp_path / f"source{alignment}.gguf"
        tensors = [TensorSpec("a.weight", (32, 3)), TensorSpec("b.weight", (256, 2), "Q2_K")]
        values = {**METADATA, "general.alignment": alignment}
        # Not UTF-8, as token pieces may be.
        whole = gguf(values, tensors, alignment=alignment).replace(b"t42", b"t\xff2")
        source.write_bytes(whole)
        rewrite(source, out := tmp_path / f"out{alignment}.gguf")
        # The last tensor is padded, too.
        assert out.read_bytes().rstrip(b"\0") == whole.rstrip(b"\0")


def test_a_tensor_is_replaced_by_another_type(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    data = np.arange(64 * 32, dtype=np.float16).reshape(64, 32)
    rewrite(
        source,
        out,
        replaced={"blk.0.ffn_up.weight": NewTensor("F16", (32, 64), lambda: data)},
        metadata={"general.file_type": 7, "llama.context_length": None, "x.new": "y"},
    )
    info = read_gguf(out)
    before, after = tensor_bytes(source), tensor_bytes(out)
    assert after.pop("blk.0.ffn_up.weight") == data.tobytes()
    del before["blk.0.ffn_up.weight"]
    assert after == before
    assert info.metadata["general.file_type"] == 7
    assert info.metadata["x.new"] == "y"
    assert "llama.context_length" not in info.metadata


def test_tensors_are_added_and_dropped(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    new = NewTensor("F32", (32, 2), lambda: np.ones((2, 32), np.float32))
    written: list[str] = []
    rewrite(
        source,
        out,
        replaced={"output.weight": new},
        dropped=["token_embd.weight"],
        on_tensor=written.append,
    )
    names = [t.name for t in read_gguf(out).tensors]
    assert names[-1] == "output.weight"
    assert "token_embd.weight" not in names
    assert written == names


def test_arrays_keep_their_type(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(gguf({"general.architecture": "x", "x.list": [1, 2, 3]}))
    rewrite(source, out := tmp_path / "out.gguf", metadata={"x.list": (4, 5), "x.words": ("a",)})
    found = read_gguf(out).metadata
    assert (found["x.list"], found["x.words"]) == ((4, 5), ("a",))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dropped": ["none"]}, "no tensor 'none'"),
        ({"metadata": {"general.file_type": "Q2_K"}}, "cannot hold 'Q2_K'"),
        ({"metadata": {"general.file_type": 1 << 40}}, "cannot hold"),
        (
            {"replaced": {"token_embd.weight": NewTensor("F32", (8, 1), lambda: np.zeros(9))}},
            "72 bytes of data",
        ),
        (
            {"replaced": {"token_embd.weight": NewTensor("Q2_K", (32, 1), lambda: np.zeros(9))}},
            "not whole blocks",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(
    source: Path, tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(GgufError, match=said):
        rewrite(source, tmp_path / "out.gguf", **changes)  # type: ignore[arg-type]
