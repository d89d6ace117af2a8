"""A model of a few hundred kilobytes that makes one decode run the kernel of every weight type.

Its weights are noise: it is for trying programs, not for answers. The same bytes come out on every
machine, and nothing but the standard library is needed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

VERSION = 3
ALIGNMENT = 32
# The rows of k-quants come in blocks of 256; repacked weights need rows in eights.
WIDTH = 256
HEADS = 4
KEY_VALUE_HEADS = 2
CONTEXT = 512

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

# GGUF's numbers of value types.
_U32, _F32, _STRING, _ARRAY, _I32 = 4, 6, 8, 9, 5


@dataclass(frozen=True)
class WeightType:
    """How a block of weights is stored, and which of its bytes must not be random."""

    number: int
    """In a GGUF file."""
    block_elements: int
    block_bytes: int
    scales: tuple[tuple[int, float], ...]
    """Offset in the block and value of each 16-bit scale; random bytes could be infinite there.
    They make the weights about as large as a trained model's (1/16 in the root mean square)."""


WEIGHT_TYPES: Mapping[str, WeightType] = {
    "Q4_0": WeightType(2, 32, 18, ((0, 2.0**-6),)),
    "Q4_1": WeightType(3, 32, 20, ((0, 2.0**-6), (2, -7.5 * 2.0**-6))),
    "Q5_0": WeightType(6, 32, 22, ((0, 2.0**-7),)),
    "Q5_1": WeightType(7, 32, 24, ((0, 2.0**-7), (2, -15.5 * 2.0**-7))),
    "Q8_0": WeightType(8, 32, 34, ((0, 2.0**-10),)),
    "Q2_K": WeightType(10, 256, 84, ((80, 2.0**-8), (82, 1.5 * 2.0**-8))),
    "Q3_K": WeightType(11, 256, 110, ((108, 2.0**-10),)),
    "Q4_K": WeightType(12, 256, 144, ((0, 2.0**-12), (2, 7.5 * 2.0**-12))),
    "Q5_K": WeightType(13, 256, 176, ((0, 2.0**-13), (2, 15.5 * 2.0**-13))),
    "Q6_K": WeightType(14, 256, 210, ((208, 2.0**-14),)),
    "IQ4_NL": WeightType(20, 32, 18, ((0, 2.0**-10),)),
    "IQ4_XS": WeightType(23, 256, 136, ((0, 2.0**-15),)),
}
"""Types that are stored in blocks. F16, BF16 and F32 are written value by value."""

_FLOAT_TYPES: Mapping[str, tuple[int, int]] = {"F32": (0, 4), "F16": (1, 2), "BF16": (30, 2)}

LAYERS: tuple[Mapping[str, str], ...] = (
    {
        "attn_q": "Q4_0",
        "attn_k": "Q8_0",
        "attn_v": "Q6_K",
        "attn_output": "Q5_K",
        "ffn_gate": "Q4_K",
        "ffn_up": "Q2_K",
        "ffn_down": "Q3_K",
    },
    {
        "attn_q": "IQ4_NL",
        "attn_k": "Q5_0",
        "attn_v": "F16",
        "attn_output": "Q4_1",
        "ffn_gate": "Q5_1",
        "ffn_up": "IQ4_XS",
        "ffn_down": "BF16",
    },
)
"""The type of each weight matrix, layer by layer. The study's own types are in the first layer."""

EMBEDDING_TYPE = "F16"
OUTPUT_TYPE = "Q8_0"


def vocabulary() -> list[tuple[bytes, int]]:
    """The pieces of the tokenizer and what each is: a token for every byte, and a few words."""
    pieces = [(b"<unk>", UNKNOWN), (b"<s>", CONTROL), (b"</s>", CONTROL)]
    pieces += [(f"<0x{byte:02X}>".encode(), BYTE) for byte in range(256)]
    words = ["\u2581", "\u2581the", "\u2581a", "e", "t"]
    return pieces + [(word.encode(), NORMAL) for word in words]


def tensors() -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape (row length first, as in the file) and type of every tensor, in file order."""
    words = len(vocabulary())
    key_value = WIDTH * KEY_VALUE_HEADS // HEADS
    found: list[tuple[str, tuple[int, ...], str]] = [
        ("token_embd.weight", (WIDTH, words), EMBEDDING_TYPE),
        ("output_norm.weight", (WIDTH,), "F32"),
        ("output.weight", (WIDTH, words), OUTPUT_TYPE),
    ]
    for number, layer in enumerate(LAYERS):
        found += [(f"blk.{number}.{norm}.weight", (WIDTH,), "F32") for norm in _NORMS]
        for name, kind in layer.items():
            rows = key_value if name in ("attn_k", "attn_v") else WIDTH
            found.append((f"blk.{number}.{name}.weight", (WIDTH, rows), kind))
    return found


_NORMS = ("attn_norm", "ffn_norm")


def model_bytes() -> bytes:
    """The whole GGUF file."""
    layout = tensors()
    metadata = _metadata()
    header = [struct.pack("<4sIQQ", b"GGUF", VERSION, len(layout), len(metadata)), *metadata]
    data: list[bytes] = []
    offset = 0
    for name, shape, kind in layout:
        number = WEIGHT_TYPES[kind].number if kind in WEIGHT_TYPES else _FLOAT_TYPES[kind][0]
        header.append(_string(name.encode()))
        header.append(struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, offset))
        weights = _padded(_weights(name, shape, kind))
        data.append(weights)
        offset += len(weights)
    return _padded(b"".join(header)) + b"".join(data)


def write_tiny_model(path: Path) -> Path:
    """Write the model to a file.

    Args:
        path: where; an existing file is replaced.

    Returns:
        The same path.

    Raises:
        OSError: it cannot be written.
    """
    path.write_bytes(model_bytes())
    return path


def _weights(name: str, shape: tuple[int, ...], kind: str) -> bytes:
    elements = 1
    for length in shape:
        elements *= length
    if kind == "F32":
        return struct.pack(f"<{elements}f", *([1.0] * elements))
    if kind in _FLOAT_TYPES:
        noise = bytearray(_noise(name, elements * 2))
        # Any sign and mantissa, the exponent of 1/16.
        sign, keep, exponent = (0x80, 0x03, 0x2C) if kind == "F16" else (0x80, 0x00, 0x3D)
        table = bytes((byte & (sign | keep)) | exponent for byte in range(256))
        noise[1::2] = noise[1::2].translate(table)
        if kind == "BF16":
            noise[0::2] = noise[0::2].translate(bytes(byte | 0x80 for byte in range(256)))
        return bytes(noise)
    stored = WEIGHT_TYPES[kind]
    blocks = elements // stored.block_elements
    noise = bytearray(_noise(name, blocks * stored.block_bytes))
    for place, value in stored.scales:
        for at, byte in enumerate(struct.pack("<e", value)):
            noise[place + at :: stored.block_bytes] = bytes([byte]) * blocks
    return bytes(noise)


def _noise(name: str, count: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(count)


def _metadata() -> list[bytes]:
    pieces = vocabulary()
    numbers: list[tuple[str, int]] = [
        ("general.alignment", ALIGNMENT),
        ("general.file_type", 2),
        ("llama.context_length", CONTEXT),
        ("llama.embedding_length", WIDTH),
        ("llama.block_count", len(LAYERS)),
        ("llama.feed_forward_length", WIDTH),
        ("llama.attention.head_count", HEADS),
        ("llama.attention.head_count_kv", KEY_VALUE_HEADS),
        ("llama.rope.dimension_count", WIDTH // HEADS),
        ("llama.vocab_size", len(pieces)),
        ("tokenizer.ggml.bos_token_id", 1),
        ("tokenizer.ggml.eos_token_id", 2),
        ("tokenizer.ggml.unknown_token_id", 0),
    ]
    texts = [
        ("general.architecture", "llama"),
        ("general.name", "edgequant trial"),
        ("tokenizer.ggml.model", "llama"),
    ]
    found = [_pair(key, _STRING, _string(text.encode())) for key, text in texts]
    found += [_pair(key, _U32, struct.pack("<I", number)) for key, number in numbers]
    found.append(_pair("llama.attention.layer_norm_rms_epsilon", _F32, struct.pack("<f", 1e-5)))
    arrays: list[tuple[str, int, Callable[[bytes, int], bytes]]] = [
        ("tokenizer.ggml.tokens", _STRING, lambda piece, kind: _string(piece)),
        ("tokenizer.ggml.scores", _F32, lambda piece, kind: struct.pack("<f", -float(len(piece)))),
        ("tokenizer.ggml.token_type", _I32, lambda piece, kind: struct.pack("<i", kind)),
    ]
    for key, number, encode in arrays:
        items = b"".join(encode(piece, kind) for piece, kind in pieces)
        found.append(_pair(key, _ARRAY, struct.pack("<IQ", number, len(pieces)) + items))
    return found


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _string(key.encode()) + struct.pack("<I", kind) + value


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)
