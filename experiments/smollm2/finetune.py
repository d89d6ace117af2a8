"""Fine-tune a Hugging Face folder on GSM8K's training questions, under one of our prompts.

    python -m experiments.smollm2.finetune FOLDER train.jsonl TUNED
    python -m experiments.smollm2.finetune FOLDER train.jsonl ADAPTER --lora 16

All weights are trained, or with ``--lora`` an adapter of the linear layers, in 32 bits with
bfloat16 products; the loss is on the answers alone, which lose their calculator marks and end in
``\\boxed{N}``. One GPU, a few minutes for 135 M parameters.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from experiments.smollm2.lora import adapt, save_adapter

BASE = "SmolLM2-135M-Instruct, dequantized from Q4_1"
NO_LOSS = -100
CALCULATOR = re.compile(r"<<[^<>]*>>")
WARM_UP = 0.03
"""Share of the steps in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training text."""

    ids: list[int]
    prompt_tokens: int
    """So many of the ids are not learnt."""


def rewritten(answer: str) -> str:
    """GSM8K's worked answer without calculator marks, its ``#### N`` as ``\\boxed{N}``."""
    steps, mark, number = answer.rpartition("####")
    if not mark:
        raise ValueError(f"no #### in {answer!r}")
    return f"{CALCULATOR.sub('', steps).strip()}\n\\boxed{{{number.strip().replace(',', '')}}}"


def read_examples(path: Path, tokenizer: Any, system: str) -> list[Example]:
    """Every line as the model's chat template has it, with the token that ends an answer."""
    examples = []
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        prompt = tokenizer.apply_chat_template(
            [
                {"role": "system", "content": system},
                {"role": "user", "content": record["question"]},
            ],
            tokenize=False,
            add_generation_prompt=True,
        )
        before = tokenizer.encode(prompt, add_special_tokens=False)
        after = tokenizer.encode(rewritten(record["answer"]), add_special_tokens=False)
        examples.append(Example([*before, *after, tokenizer.eos_token_id], len(before)))
    return examples


def batches(
    examples: Sequence[Example], size: int, seed: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One epoch in a random order: ids, attention mask and labels, each rows x longest."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    for start in range(0, len(order), size):
        chosen = [examples[i] for i in order[start : start + size]]
        longest = max(len(e.ids) for e in chosen)
        ids = torch.zeros(len(chosen), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, NO_LOSS)
        for row, example in enumerate(chosen):
            length = len(example.ids)
            ids[row, :length] = torch.tensor(example.ids)
            mask[row, :length] = 1
            labels[row, example.prompt_tokens : length] = ids[row, example.prompt_tokens : length]
        yield ids, mask, labels


def loss_of(model: Any, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the learnt tokens; only their logits are computed."""
    hidden = model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    learnt = labels[:, 1:] != NO_LOSS
    logits = model.lm_head(hidden[:, :-1][learnt])
    return functional.cross_entropy(logits.float(), labels[:, 1:][learnt])


def rate(step: int, steps: int, peak: float) -> float:
    """Learning rate: a short rise, then half a cosine down to zero."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def train(
    model: Any,
    examples: Sequence[Example],
    arguments: argparse.Namespace,
    save: Callable[[], None] = lambda: None,
) -> list[float]:
    """Train in place what asks for gradients, and ``save`` after each epoch.

    Returns:
        The mean loss of each epoch.
    """
    device = next(model.parameters()).device
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.0)
    steps = arguments.epochs * math.ceil(len(examples) / arguments.batch)
    step, means, started = 0, [], time.monotonic()
    for epoch in range(arguments.epochs):
        losses = []
        for batch in batches(examples, arguments.batch, arguments.seed + epoch):
            ids, mask, labels = (tensor.to(device) for tensor in batch)
            optimizer.param_groups[0]["lr"] = rate(step, steps, arguments.rate)
            with torch.autocast(device.type, torch.bfloat16):
                loss = loss_of(model, ids, mask, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learnt, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            step += 1
            if step == arguments.steps:
                break
        means.append(float(torch.stack(losses).mean()))
        print(
            f"epoch {epoch + 1}: loss {means[-1]:.4f}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        save()
        if step == arguments.steps:
            break
    return means


def save_model(model: Any, source: Path, out: Path) -> None:
    """Write a folder like the one that was read."""
    out.mkdir(parents=True, exist_ok=True)
    # Of the tied pair one is stored.
    weights = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    for file in source.glob("*.json"):
        shutil.copyfile(file, out / file.name)


def main() -> None:
    """Read the command line, train, and write what was learnt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("questions", type=Path, help="GSM8K's train.jsonl")
    parser.add_argument("out", type=Path)
    parser.add_argument("--prompt", type=Path, default=Path("prompts/cot.toml"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-4, help="peak learning rate")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="train an adapter")
    parser.add_argument("--alpha", type=float, default=32.0, help="of the adapter")
    parser.add_argument("--base", default=BASE, help="the adapted model's name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=0, help="stop after so many; 0: at the end")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.backends.cuda.matmul.allow_tf32 = True
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    system = tomllib.loads(arguments.prompt.read_text(encoding="utf-8"))["system"]
    examples = read_examples(arguments.questions, tokenizer, system)
    print(
        f"{len(examples)} examples, {sum(len(e.ids) for e in examples)} tokens an epoch", flush=True
    )
    model = AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32)
    model.to(arguments.device).train()
    if arguments.lora:
        rank, alpha = arguments.lora, arguments.alpha
        adapted = adapt(model, rank, alpha)
        save = partial(
            save_adapter, adapted, arguments.out, rank=rank, alpha=alpha, base=arguments.base
        )
    else:
        save = partial(save_model, model, arguments.folder, arguments.out)
    started = time.monotonic()
    means = train(model, examples, arguments, save)
    notes = {
        "loss_by_epoch": means,
        "seconds": round(time.monotonic() - started, 1),
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else arguments.device,
        "torch": torch.__version__,
        "arguments": {k: v for k, v in vars(arguments).items() if not isinstance(v, Path)},
    }
    (arguments.out / "training.json").write_text(json.dumps(notes, indent=2) + "\n")


if __name__ == "__main__":
    main()
