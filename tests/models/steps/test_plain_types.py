"""What llama-quantize would make of each tensor, from what it really printed."""

from __future__ import annotations

from pathlib import Path

from edgequant.models.steps.plain_types import parse_dry_run

RECORDED = Path(__file__).parent / "recorded" / "llama-quantize-dry-run.txt"


def test_a_dry_run_of_llama_quantize() -> None:
    types = parse_dry_run(RECORDED.read_text().splitlines())
    assert types["token_embd.weight"] == "Q6_K"
    assert types["blk.0.attn_q.weight"] == "Q2_K"
    assert types["blk.0.ffn_down.weight"] == "Q3_K"
    # Norms stay as they are.
    assert len(types) == 8
