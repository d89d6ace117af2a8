"""Which weights are probed together, and which types fit a weight."""

from __future__ import annotations

from edgequant.models.formats.gguf import Tensor
from edgequant.models.sensitivity import bytes_in, groups_of, types_for

NAMES = ["token_embd.weight", *(f"blk.{n}.{k}.weight" for n in range(10) for k in ("q", "down"))]


def test_each_alone_where_there_are_few() -> None:
    assert groups_of(NAMES, limit=21) == [[name] for name in NAMES]


def test_neighbouring_layers_of_a_kind_where_there_are_many() -> None:
    groups = groups_of(NAMES, limit=7)
    assert sorted(name for group in groups for name in group) == sorted(NAMES)
    assert ["token_embd.weight"] in groups
    assert [f"blk.{n}.q.weight" for n in range(4)] in groups
    assert len(groups) == 7


def test_types_whose_blocks_divide_the_rows() -> None:
    narrow = Tensor("w", (576, 10), "F16", 11520, 0)
    assert "Q4_K" not in types_for(narrow, importance=True)
    assert {"Q2_0", "Q4_0", "IQ4_NL"} <= set(types_for(narrow, importance=False))
    wide = Tensor("w", (512, 10), "F16", 10240, 0)
    assert "IQ3_XXS" in types_for(wide, importance=True)
    assert "IQ3_XXS" not in types_for(wide, importance=False)
    assert bytes_in(wide, "Q4_K") == 10 * 2 * 144
