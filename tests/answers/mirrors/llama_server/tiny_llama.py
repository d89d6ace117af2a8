"""A Llama of random weights that llama.cpp loads: a few hundred kilobytes, tokens are bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

HIDDEN, LAYERS, FEED_FORWARD, HEADS, KV_HEADS, HEAD_SIZE = 64, 2, 128, 4, 2, 16
CONTEXT = 512
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
BOS, EOS, IM_START, IM_END = 1, 2, 3, 4
WORDS = (*"▁etaonisrhlducm0123456789é日", "▁t", "▁a", "he", "in")
UNSIGNED, SIGNED, FLOAT, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL_TYPE, UNKNOWN_TYPE, CONTROL_TYPE, BYTE_TYPE = 1, 2, 3, 6


def write_tiny_llama(path: Path, *, seed: int = 0, template: bool = True) -> Path:
    """Write a model; another seed gives other weights."""
    random = np.random.default_rng(seed)
    tokens = ["<unk>", *CONTROL, *(f"<0x{b:02X}>" for b in range(256)), *WORDS]
    kinds = [UNKNOWN_TYPE, *[CONTROL_TYPE] * len(CONTROL), *[BYTE_TYPE] * 256]
    kinds += [NORMAL_TYPE] * len(WORDS)
    scores = [0.0] * (5 + 256) + [-float(i) for i in range(len(WORDS))]
    metadata: list[tuple[str, bytes]] = [
        ("general.architecture", string_value("llama")),
        ("general.file_type", number(UNSIGNED, "<I", 0)),
        ("llama.context_length", number(UNSIGNED, "<I", CONTEXT)),
        ("llama.embedding_length", number(UNSIGNED, "<I", HIDDEN)),
        ("llama.block_count", number(UNSIGNED, "<I", LAYERS)),
        ("llama.feed_forward_length", number(UNSIGNED, "<I", FEED_FORWARD)),
        ("llama.attention.head_count", number(UNSIGNED, "<I", HEADS)),
        ("llama.attention.head_count_kv", number(UNSIGNED, "<I", KV_HEADS)),
        ("llama.rope.dimension_count", number(UNSIGNED, "<I", HEAD_SIZE)),
        ("llama.attention.layer_norm_rms_epsilon", number(FLOAT, "<f", 1e-5)),
        ("tokenizer.ggml.model", string_value("llama")),
        ("tokenizer.ggml.tokens", array(STRING, [string(t) for t in tokens])),
        ("tokenizer.ggml.scores", array(FLOAT, [struct.pack("<f", s) for s in scores])),
        ("tokenizer.ggml.token_type", array(SIGNED, [struct.pack("<i", k) for k in kinds])),
        ("tokenizer.ggml.bos_token_id", number(UNSIGNED, "<I", BOS)),
        ("tokenizer.ggml.eos_token_id", number(UNSIGNED, "<I", EOS)),
        ("tokenizer.ggml.eot_token_id", number(UNSIGNED, "<I", IM_END)),
        ("tokenizer.ggml.add_bos_token", number(BOOL, "<?", True)),
        ("tokenizer.ggml.add_space_prefix", number(BOOL, "<?", False)),
    ]
    if template:
        metadata.append(("tokenizer.chat_template", string_value(TEMPLATE)))
    shapes = {"token_embd.weight": (len(tokens), HIDDEN), "output.weight": (len(tokens), HIDDEN)}
    shapes["output_norm.weight"] = (HIDDEN,)
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (HIDDEN,),
            "ffn_norm": (HIDDEN,),
            "attn_q": (HEADS * HEAD_SIZE, HIDDEN),
            "attn_k": (KV_HEADS * HEAD_SIZE, HIDDEN),
            "attn_v": (KV_HEADS * HEAD_SIZE, HIDDEN),
            "attn_output": (HIDDEN, HEADS * HEAD_SIZE),
            "ffn_gate": (FEED_FORWARD, HIDDEN),
            "ffn_up": (FEED_FORWARD, HIDDEN),
            "ffn_down": (HIDDEN, FEED_FORWARD),
        }.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(metadata))
    head += b"".join(string(key) + value for key, value in metadata)
    data = b""
    for name, shape in shapes.items():
        head += string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", 0, len(data))
        values = np.ones(shape) if len(shape) == 1 else random.standard_normal(shape)
        data += values.astype("<f4").tobytes()
        data += bytes(-len(data) % 32)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def string_value(text: str) -> bytes:
    return struct.pack("<I", STRING) + string(text)


def number(kind: int, layout: str, value: float) -> bytes:
    return struct.pack("<I", kind) + struct.pack(layout, value)


def array(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)
