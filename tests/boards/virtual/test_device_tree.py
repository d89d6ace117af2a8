"""The virtual board's device tree: qemu's own, under another board's name."""

from __future__ import annotations

import gzip
from pathlib import Path

import fdt

from edgequant.boards.virtual.machine import rename_board

RECORDED = Path(__file__).parent / "recorded" / "qemu-virt.dtb.gz"
RENAMED = ("compatible", "model")


def test_qemu_s_tree_is_renamed_and_trimmed_and_nothing_else_changes() -> None:
    dump = gzip.decompress(RECORDED.read_bytes())
    blob = rename_board(dump, "rockchip,rk3568", "a board")
    assert len(dump) == 1 << 20
    assert int.from_bytes(blob[4:8], "big") == len(blob) < 16_000
    assert b"rockchip,rk3568\0" in blob
    before, after = fdt.parse_dtb(dump), fdt.parse_dtb(blob)
    assert before.get_property("compatible").value == "linux,dummy-virt"
    assert after.get_property("compatible").value == "rockchip,rk3568"
    assert after.get_property("model").value == "a board"
    for tree in (before, after):
        for name in RENAMED:
            if tree.exist_property(name):
                tree.remove_property(name)
    assert after.to_dts() == before.to_dts()
    assert len(after.get_node("/cpus").nodes) >= 4
