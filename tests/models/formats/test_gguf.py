"""GGUF headers: what is written is read, and nothing damaged passes for whole."""

from __future__ import annotations

import math
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgequant.core.errors import GgufError
from edgequant.models.formats.gguf import bytes_per_token, read_gguf, read_tokens
from edgequant.models.formats.types import tensor_types
from tests.models.gguf_writer import NUMBERS, TensorSpec, gguf, string

LLAMA = {"general.architecture": "llama", "general.file_type": 10}

within_a_folder = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def tensor_specs(draw: st.DrawFn) -> list[TensorSpec]:
    names = draw(st.lists(st.text("abcw.0123é", min_size=1, max_size=20), unique=True, max_size=5))
    specs = []
    for name in names:
        kind = tensor_types()[NUMBERS[draw(st.sampled_from(sorted(NUMBERS)))]]
        row = kind.block_elements * draw(st.integers(1, 3))
        rest = draw(st.lists(st.integers(1, 3), max_size=3))
        specs.append(TensorSpec(name, (row, *rest), kind.name))
    return specs


values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=30),
    st.lists(st.text(max_size=5), max_size=80),
    st.lists(st.integers(-100, 100), max_size=80),
)
metadatas = st.dictionaries(st.text(min_size=1, max_size=10), values, max_size=6)


@within_a_folder
@given(metadata=metadatas, tensors=tensor_specs(), version=st.sampled_from([2, 3]))
def test_what_is_written_is_read(
    tmp_path: Path, metadata: dict[str, object], tensors: list[TensorSpec], version: int
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({**metadata, **LLAMA}, tensors, version=version))
    info = read_gguf(path)
    assert info.version == version
    assert info.architecture == "llama"
    assert info.file_type == "Q2_K"
    for key, item in metadata.items():
        if isinstance(item, list):
            assert info.array_lengths[key] == len(item)
            assert info.metadata.get(key) == (tuple(item) if len(item) <= 64 else None)
        else:
            assert info.metadata[key] == item
    assert [(t.name, t.shape, t.type, t.bytes) for t in info.tensors] == [
        (t.name, t.shape, t.type, t.bytes) for t in tensors
    ]
    assert info.parameter_count == sum(math.prod(t.shape) for t in tensors)
    assert all(t.offset % 32 == 0 for t in info.tensors)


@settings(within_a_folder, max_examples=15)
@given(metadata=metadatas, tensors=tensor_specs().filter(bool))
def test_truncation_at_any_byte_is_noticed(
    tmp_path: Path, metadata: dict[str, object], tensors: list[TensorSpec]
) -> None:
    whole = gguf({**LLAMA, **metadata}, tensors)
    path = tmp_path / "m.gguf"
    step = max(1, len(whole) // 300)
    for length in {*range(0, len(whole), step), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(GgufError):
            read_gguf(path)


@settings(within_a_folder, max_examples=300)
@given(data=st.data())
def test_damage_never_hangs_nor_allocates(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes overwritten: an answer or a GgufError, in little memory."""
    whole = bytearray(gguf({**LLAMA, "t": ["a", "b"], "n": [1, 2]}, [TensorSpec("x", (256, 2))]))
    position = data.draw(st.integers(4, 220))
    patch = data.draw(st.one_of(st.just(b"\xff" * 8), st.binary(min_size=1, max_size=8)))
    whole[position : position + len(patch)] = patch
    path = tmp_path / "m.gguf"
    path.write_bytes(whole)
    tracemalloc.start()
    try:
        read_gguf(path)
    except GgufError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a GGUF"),
        (b"GG", "not a GGUF"),
        (b"PK\x03\x04" + bytes(64), "not a GGUF"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1"),
        (struct.pack("<4sIQQ", b"GGUF", 4, 0, 0), "version 4"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "big-endian"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63), "truncated"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 0), "truncated"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 0), "general.architecture"),
        (
            struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
            + string("k")
            + struct.pack("<IIQ", 9, 8, 2**60)
            + bytes(64),
            "truncated",
        ),
        (
            struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + string("k") + struct.pack("<I", 99),
            "unknown value type 99",
        ),
        (gguf({**LLAMA, "general.alignment": 24}), "power of two"),
        (gguf(LLAMA, [TensorSpec("x", (4,)), TensorSpec("x", (4,))]), "twice"),
        (gguf(LLAMA, [TensorSpec("x" * 64, (4,))]), "64 bytes"),
        (gguf(LLAMA, [TensorSpec("x", (8,)), TensorSpec("y", (8,))])[:-1], "'y' ends at"),
    ],
)
def test_each_kind_of_damage_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(GgufError, match=message) as raised:
        read_gguf(path)
    assert raised.value.subject == str(path)


@pytest.mark.parametrize(
    ("counts", "message"),
    [((0, 1 << 20), "tells of 1048576 keys"), ((1 << 20, 0), "tells of 1048576 tensors")],
)
def test_more_entries_than_any_model_has_are_not_read(
    tmp_path: Path, counts: tuple[int, int], message: str
) -> None:
    path = tmp_path / "m.gguf"
    # There is room for as many: a sparse file costs its author nothing.
    with path.open("wb") as stream:
        stream.write(struct.pack("<4sIQQ", b"GGUF", 3, *counts))
        stream.truncate(1 << 30)
    with pytest.raises(GgufError, match=message):
        read_gguf(path)


def test_more_strings_than_any_vocabulary_has_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    head = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + string("k")
    with path.open("wb") as stream:
        stream.write(head + struct.pack("<IIQ", 9, 8, 1 << 27))
        stream.truncate(2 << 30)
    with pytest.raises(GgufError, match="an array of 134217728 strings"):
        read_gguf(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(GgufError, match="no such file"):
        read_gguf(tmp_path / "none.gguf")
    with pytest.raises(GgufError, match="cannot be read"):
        read_gguf(tmp_path)


def test_tensors_that_overlap_are_refused(tmp_path: Path) -> None:
    whole = gguf(LLAMA, [TensorSpec("first", (8,)), TensorSpec("other", (8,))])
    second_offset = whole.index(b"other") + len(b"other") + 4 + 8 + 4
    path = tmp_path / "m.gguf"
    path.write_bytes(whole[:second_offset] + bytes(8) + whole[second_offset + 8 :])
    with pytest.raises(GgufError, match="'other' lies at 0, expected at 32"):
        read_gguf(path)


def test_tokens_are_read_whole(tmp_path: Path) -> None:
    tokens = [f"▁piece{i}" for i in range(500)]
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({**LLAMA, "tokenizer.ggml.tokens": tokens}))
    assert read_tokens(path) == tuple(tokens)
    assert "tokenizer.ggml.tokens" not in read_gguf(path).metadata


def read(tmp_path: Path, metadata: dict[str, object], tensors: list[TensorSpec]) -> int:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf({**LLAMA, **metadata}, tensors))
    return bytes_per_token(read_gguf(path))


def test_bytes_per_token_of_tied_and_untied_embeddings(tmp_path: Path) -> None:
    embedding = TensorSpec("token_embd.weight", (256, 32), "Q8_0")
    output = TensorSpec("output.weight", (256, 32), "Q6_K")
    layer = TensorSpec("blk.0.attn_q.weight", (256, 256), "Q4_K")
    assert read(tmp_path, {}, [embedding, layer]) == embedding.bytes + layer.bytes
    assert read(tmp_path, {}, [embedding, output, layer]) == output.bytes + layer.bytes


def test_bytes_per_token_of_a_mixture_counts_the_chosen_experts(tmp_path: Path) -> None:
    experts = TensorSpec("blk.0.ffn_up_exps.weight", (256, 4, 8), "Q4_K")
    layer = TensorSpec("blk.0.attn_q.weight", (256, 256), "Q4_K")
    metadata: dict[str, object] = {"llama.expert_count": 8, "llama.expert_used_count": 2}
    assert read(tmp_path, metadata, [experts, layer]) == experts.bytes // 4 + layer.bytes


def test_bits_per_weight(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf(LLAMA, [TensorSpec("x", (256, 4), "Q2_K")]))
    assert read_gguf(path).bits_per_weight == pytest.approx(84 * 8 / 256)
