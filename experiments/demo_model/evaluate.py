"""Score a Hugging Face folder in PyTorch, by difficulty level, before anything is quantized.

    python -m experiments.demo_model.evaluate FOLDER [--questions-per-level 128]

Held-out problems, greedy decoding, whole batches at once; the figures that count are those of
``figures.py``, which asks llama-server about the shipped questions.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

from .examples import END_ID, prompt_tokens
from .generator import LEVELS, problems
from .model import Llama, Shape

_BOXED = re.compile(r"\\boxed\{(-?[0-9]+)\}")


def last_boxed(text: str) -> int | None:
    """Return the integer in the last whole ``\\boxed{}`` of an answer."""
    found = _BOXED.findall(text)
    return int(found[-1]) if found else None


def load(folder: Path, device: torch.device) -> Llama:
    """Read a folder that ``train.py`` has written."""
    import json

    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    model = Llama(
        Shape(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            feed_forward=config["intermediate_size"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            vocabulary=config["vocab_size"],
        )
    )
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(device, torch.bfloat16 if device.type == "cuda" else torch.float32).eval()


@torch.no_grad()
def generate(model: Llama, prompts: list[list[int]], limit: int) -> list[list[int]]:
    """Greedy answers of at most ``limit`` tokens each, without the end marker.

    The whole prefix is computed anew for every token: short texts on a fast device need no cache.
    """
    device = model.model.embed_tokens.weight.device
    longest = max(len(prompt) for prompt in prompts) + limit
    ids = torch.zeros(len(prompts), longest, dtype=torch.long, device=device)
    ends = torch.tensor([len(prompt) for prompt in prompts], device=device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt, device=device)
    starts = ends.clone()
    rows = torch.arange(len(prompts), device=device)
    for _ in range(limit):
        if not len(rows):
            break
        width = int(ends[rows].max())
        positions = torch.arange(width, device=device).expand(len(rows), width)
        hidden = model(ids[rows, :width], positions)
        last = hidden[torch.arange(len(rows), device=device), ends[rows] - 1]
        token = model.logits(last).argmax(-1)
        ids[rows, ends[rows]] = token
        going = token != END_ID
        ends[rows[going]] += 1
        rows = rows[going]
    table = ids.tolist()
    return [table[i][int(starts[i]) : int(ends[i])] for i in range(len(prompts))]


def main() -> None:
    """Print accuracy and answer length for each level, prompt and stated budget."""
    import sentencepiece

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--questions-per-level", type=int, default=128)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--limit", type=int, default=320, help="tokens an answer may have")
    arguments = parser.parse_args()
    encoder = sentencepiece.SentencePieceProcessor(
        model_file=str(arguments.folder / "tokenizer.model")
    )
    model = load(arguments.folder, torch.device(arguments.device))
    modes: list[tuple[str, int | None]] = [
        ("cot", None), ("aav", None), ("cot", 6), ("cot", 16), ("cot", 32), ("cot", 64),
        ("cot", 128), ("aav", 8), ("aav", 32), ("aav", 64), ("aav", 128),
    ]  # fmt: skip
    print(f"{'prompt':6} {'stated':>6} " + " ".join(f"  level {level} (len)" for level in LEVELS))
    for prompt, stated in modes:
        cells = []
        for level in LEVELS:
            source = problems(f"evaluate-{level}", held_out=True, levels=(level,))
            asked = [next(source) for _ in range(arguments.questions_per_level)]
            tokens = [prompt_tokens(encoder, prompt, stated, p.question) for p in asked]
            answers = generate(model, tokens, arguments.limit)
            right = sum(
                last_boxed(encoder.decode(answer)) == problem.answer
                for answer, problem in zip(answers, asked, strict=True)
            )
            length = sum(len(answer) + 1 for answer in answers) / len(answers)
            cells.append(f"{right / len(asked):7.1%} ({length:5.1f})")
        print(f"{prompt:6} {stated or '-':>6} " + " ".join(cells), flush=True)


if __name__ == "__main__":
    main()
