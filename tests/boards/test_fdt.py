"""Device trees: qemu's own, and any tree at all."""

from __future__ import annotations

import contextlib
import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.boards.virtual import fdt
from edgequant.boards.virtual.machine import rename_board

RECORDED = Path(__file__).parent / "recorded" / "qemu-virt.dtb.gz"
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-,@0123456789", min_size=1, max_size=12)
PROPERTIES = st.dictionaries(NAMES, st.binary(max_size=20), max_size=4)
NODES = st.recursive(
    st.builds(fdt.Node, NAMES, PROPERTIES),
    lambda children: st.builds(fdt.Node, NAMES, PROPERTIES, st.lists(children, max_size=3)),
    max_leaves=8,
)
TREES = st.builds(
    fdt.Tree,
    NODES,
    st.lists(
        st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1)),
        max_size=2,
    ),
    st.integers(0, 7),
)


@given(TREES)
def test_a_tree_survives_the_way_out_and_in(tree: fdt.Tree) -> None:
    blob = fdt.serialise(tree)
    assert fdt.parse(blob) == tree
    assert struct.unpack_from(">I", blob, 4) == (len(blob),)


def test_qemu_s_tree_is_renamed_and_trimmed() -> None:
    dump = gzip.decompress(RECORDED.read_bytes())
    before = fdt.parse(dump)
    assert before.root.properties["compatible"] == b"linux,dummy-virt\0"
    blob = rename_board(dump, "rockchip,rk3568", "a board")
    after = fdt.parse(blob)
    assert len(dump) == 1 << 20
    assert len(blob) < 16_000
    assert after.root.properties.pop("compatible") == b"rockchip,rk3568\0"
    assert after.root.properties.pop("model") == b"a board\0"
    for name in ("compatible", "model"):
        before.root.properties.pop(name, None)
    assert after == before
    assert len(after.root.child("cpus").children) >= 4


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"\0" * 64,
        struct.pack(">10I", 0xD00DFEED, 4096, 56, 60, 40, 17, 16, 0, 0, 4),
        struct.pack(">10I", 0xD00DFEED, 40, 9999, 60, 40, 17, 16, 0, 0, 4),
    ],
)
def test_what_is_no_tree_is_refused(damaged: bytes) -> None:
    with pytest.raises(fdt.FdtError):
        fdt.parse(damaged)


@given(st.binary(max_size=200))
def test_any_garbage_behind_a_header_is_refused_cleanly(garbage: bytes) -> None:
    total = 40 + len(garbage)
    blob = struct.pack(">10I", 0xD00DFEED, total, 56, 40, 40, 17, 16, 0, 0, 0) + garbage
    with contextlib.suppress(fdt.FdtError):
        fdt.parse(blob)
