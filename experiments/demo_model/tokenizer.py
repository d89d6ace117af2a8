"""Train the demo model's tokenizer and write it in every form that a user's tools read.

A SentencePiece BPE of 1024 pieces: digits are single tokens, unknown characters and the newline
fall back to bytes, and the chat markers are control tokens.  No space is put before a text and
no token before a prompt, so a piece of text has the same ids wherever it stands, in SentencePiece,
in Hugging Face's tokenizers and in llama.cpp alike.

    python -m experiments.demo_model.tokenizer --out experiments/demo_model/model
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from .examples import SYSTEM_TEXTS, budget_sentence
from .generator import GOODS, ITEMS, LENGTHS, NAMES, problems

VOCABULARY = 1024
UNKNOWN, START, END, PAD = "<unk>", "<|im_start|>", "<|im_end|>", "<|pad|>"
CONTROL_TOKENS = (UNKNOWN, START, END, PAD)
"""In the order of their ids, 0 to 3."""

TOKENIZER_FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
"""What ``write`` writes."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def corpus(count: int, seed: int) -> Iterator[str]:
    """Yield lines of text for training: questions, solutions of every length, the prompts."""
    rng = Random(seed)
    source = problems(f"tokenizer-{seed}", held_out=False)
    for _ in range(count):
        problem = next(source)
        yield problem.question
        yield from problem.solution(rng.choice(LENGTHS)).splitlines()
        yield from problem.solution("full").splitlines()
    for _ in range(max(20, count // 10)):
        # Often enough that every word of them becomes one piece.
        for text in SYSTEM_TEXTS.values():
            yield from (line for line in text.splitlines() if line)
        yield budget_sentence(rng.randint(1, 600))
        yield "Quick Answer: \\boxed{7}"
        yield from ("system", "user", "assistant", "Verification:", "The answer is \\boxed{7}.")
        yield " ".join(("", *NAMES, *ITEMS, *GOODS))


def train(count: int = 20_000, seed: int = 0) -> bytes:
    """Train on ``count`` problems and return the SentencePiece model."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(count, seed),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        # Lets "\boxed{" and "now?" become single pieces; digits stay alone all the same.
        split_by_unicode_script=False,
        allow_whitespace_only_pieces=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        unk_piece=UNKNOWN,
        bos_piece=START,
        eos_piece=END,
        pad_piece=PAD,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def merges(pieces: list[tuple[str, float]]) -> list[tuple[str, str]]:
    """Return the BPE merges, best first, that the scores of SentencePiece pieces stand for."""
    rank = dict(pieces)
    found: list[tuple[float, int, int, str, str]] = []
    order = {piece: index for index, (piece, _) in enumerate(pieces)}
    for piece, score in pieces:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in rank and right in rank:
                found.append((-score, order[left], order[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def fast_tokenizer(model: bytes) -> Any:
    """Return the ``tokenizers.Tokenizer`` that equals a SentencePiece model."""
    import sentencepiece
    import tokenizers
    from tokenizers import decoders, models, normalizers

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    size = pieces.get_piece_size()
    vocabulary = {pieces.id_to_piece(i): i for i in range(size)}
    normal = [
        (pieces.id_to_piece(i), pieces.get_score(i))
        for i in range(size)
        if not (pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i))
    ]
    tokenizer = tokenizers.Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges(normal),
            unk_token=UNKNOWN,
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(
        [tokenizers.AddedToken(t, special=True, normalized=False) for t in CONTROL_TOKENS]
    )
    return tokenizer


def write(folder: Path, model: bytes) -> None:
    """Write tokenizer.model and the files Hugging Face reads beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model)
    fast_tokenizer(model).save(str(folder / "tokenizer.json"))
    special = {"bos_token": START, "eos_token": END, "pad_token": PAD, "unk_token": UNKNOWN}
    added = {
        str(i): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for i, token in enumerate(CONTROL_TOKENS)
    }
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": added,
        **special,
        "chat_template": CHAT_TEMPLATE,
    }
    for name, value in (("tokenizer_config.json", config), ("special_tokens_map.json", special)):
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    """Train a tokenizer and write it to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--problems", type=int, default=20_000, help="problems to train on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.out, train(arguments.problems, arguments.seed))


if __name__ == "__main__":
    main()
