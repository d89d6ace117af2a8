"""SmolLM2's scripts: what is undone of a conversion, and what is learnt of an answer."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from experiments.smollm2 import finetune, rebuild  # noqa: E402


def permuted(weights: rebuild.Weights, heads: int) -> rebuild.Weights:
    """What llama.cpp's converter does to Q and K (``LlamaModel.permute``)."""
    apart = weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
    return apart.swapaxes(1, 2).reshape(weights.shape)


@pytest.mark.parametrize("heads", [1, 3, 9])
def test_the_converters_order_of_rows_is_undone(heads: int) -> None:
    weights = np.arange(heads * 8 * 5, dtype=np.float32).reshape(heads * 8, 5)
    assert (permuted(weights, heads) != weights).any()
    assert (rebuild.unpermute(permuted(weights, heads), heads) == weights).all()


def test_tensors_have_the_names_of_transformers() -> None:
    assert rebuild.hugging_face_name("token_embd.weight") == "model.embed_tokens.weight"
    assert (
        rebuild.hugging_face_name("blk.12.attn_k.weight")
        == "model.layers.12.self_attn.k_proj.weight"
    )


def test_a_gguf_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"general.architecture is 'qwen2'"):
        rebuild._check({"general.architecture": "qwen2"})


def test_answers_end_in_a_box_without_calculator_marks() -> None:
    raw = "He sold 500*2=<<500*2=1000>>1000.\nThat is $<<1000+200=1200>>1,200.\n#### 1,200"
    assert finetune.rewritten(raw) == "He sold 500*2=1000.\nThat is $1,200.\n\\boxed{1200}"
    with pytest.raises(ValueError, match="no ####"):
        finetune.rewritten("42")


def test_only_answers_are_learnt_and_every_example_once() -> None:
    examples = [finetune.Example(list(range(1, n + 1)), n - 2) for n in (4, 9, 6)]
    seen = []
    for ids, mask, labels in finetune.batches(examples, size=2, seed=1):
        for row, kept, wanted in zip(ids, mask, labels, strict=True):
            length = int(kept.sum())
            assert row[:length].tolist() == list(range(1, length + 1))
            learnt = wanted != finetune.NO_LOSS
            assert row[learnt].tolist() == [length - 1, length]
            assert wanted[learnt].tolist() == [length - 1, length]
            seen.append(length)
    assert sorted(seen) == [4, 6, 9]


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [finetune.rate(step, 100, 1e-4) for step in range(101)]
    assert max(rates) == pytest.approx(1e-4)
    assert rates.index(max(rates)) in (2, 3)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[100] == pytest.approx(0.0)


def test_training_texts_have_the_prompt_the_answer_and_its_end(tmp_path: Path) -> None:
    asked: list[object] = []

    def template(messages: object, **_options: object) -> str:
        asked.append(messages)
        return "PROMPT"

    tokenizer = SimpleNamespace(
        apply_chat_template=template,
        encode=lambda text, **_options: list(text.encode()),
        eos_token_id=999,
    )
    path = tmp_path / "train.jsonl"
    path.write_text('{"question": "1+1?", "answer": "It is <<1+1=2>>2.\\n#### 2"}\n')
    (example,) = finetune.read_examples(path, tokenizer, "Think.")
    assert asked == [[{"role": "system", "content": "Think."}, {"role": "user", "content": "1+1?"}]]
    assert bytes(example.ids[: example.prompt_tokens]) == b"PROMPT"
    assert bytes(example.ids[example.prompt_tokens : -1]) == b"It is 2.\n\\boxed{2}"
    assert example.ids[-1] == 999


def test_an_adapter_is_written_as_it_is_used(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from experiments.smollm2 import lora

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = torch.nn.Linear(6, 4, bias=False)
            self.head = torch.nn.Linear(4, 3, bias=False)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.head(self.q_proj(rows))

    model, rows = Model().bfloat16(), torch.randn(5, 6).bfloat16()
    before, weight = model(rows), model.q_proj.weight.detach().float()
    adapted = lora.adapt(model, rank=2, alpha=6.0)
    assert list(adapted) == ["q_proj"]
    learnt = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learnt == ["q_proj.lora_A", "q_proj.lora_B"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(rows), before)
    torch.nn.init.normal_(adapted["q_proj"].lora_B)
    with torch.autocast("cpu", torch.bfloat16):
        after = adapted["q_proj"](rows)
    lora.save_adapter(adapted, tmp_path, rank=2, alpha=6.0, base="a model")
    written = load_file(tmp_path / "adapter_model.safetensors")
    a, b = (written[f"base_model.model.q_proj.lora_{m}.weight"].float() for m in "AB")
    merged = rows.float() @ (weight + 3.0 * b @ a).T
    assert torch.allclose(after.float(), merged, rtol=0.05, atol=0.1)
