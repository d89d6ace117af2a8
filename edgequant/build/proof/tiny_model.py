"""A model of a few hundred kilobytes that makes one decode run the kernel of every weight type.

Its weights are noise: it is for trying programs, not for answers. They are the same on every
machine.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gguf import GGUFWriter

# The rows of k-quants come in blocks of 256; repacked weights need rows in eights.
WIDTH = 256
HEADS = 4
KEY_VALUE_HEADS = 2
CONTEXT = 512

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

BLOCK_SCALES: Mapping[str, tuple[tuple[int, float], ...]] = {
    "Q4_0": ((0, 2.0**-6),),
    "Q4_1": ((0, 2.0**-6), (2, -7.5 * 2.0**-6)),
    "Q5_0": ((0, 2.0**-7),),
    "Q5_1": ((0, 2.0**-7), (2, -15.5 * 2.0**-7)),
    "Q8_0": ((0, 2.0**-10),),
    "Q2_K": ((80, 2.0**-8), (82, 1.5 * 2.0**-8)),
    "Q3_K": ((108, 2.0**-10),),
    "Q4_K": ((0, 2.0**-12), (2, 7.5 * 2.0**-12)),
    "Q5_K": ((0, 2.0**-13), (2, 15.5 * 2.0**-13)),
    "Q6_K": ((208, 2.0**-14),),
    "IQ4_NL": ((0, 2.0**-10),),
    "IQ4_XS": ((0, 2.0**-15),),
}
"""Types that are stored in blocks, each to the offset in the block and the value of its 16-bit
scales: random bytes could be infinite there. They make the weights about as large as a trained
model's (1/16 in the root mean square). F16, BF16 and F32 are written value by value."""

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


def write_tiny_model(path: Path) -> Path:
    """Write the model to a GGUF file.

    Args:
        path: where; an existing file is replaced.

    Returns:
        The same path.

    Raises:
        OSError: it cannot be written.
    """
    # It takes a quarter of a second to import.
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(path, "llama")
    _add_metadata(writer)
    for name, shape, kind in tensors():
        writer.add_tensor(name, weights(name, shape, kind), raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def weights(name: str, shape: tuple[int, ...], kind: str) -> Any:
    """The weights of one tensor: an array of bytes, one row of the file a row."""
    import numpy
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    row_length, rows = shape[0], shape[1] if len(shape) == 2 else 1
    block_elements, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    row_bytes = row_length // block_elements * block_bytes
    data = _bytes_of_weights(name, kind, block_bytes, rows * row_bytes)
    array = numpy.frombuffer(data, dtype=numpy.uint8)
    return array.reshape(rows, row_bytes) if len(shape) == 2 else array


def _bytes_of_weights(name: str, kind: str, block_bytes: int, count: int) -> bytes:
    if kind == "F32":
        return struct.pack("<f", 1.0) * (count // 4)
    noise = bytearray(_noise(name, count))
    if kind in ("F16", "BF16"):
        # Any sign and mantissa, the exponent of 1/16.
        sign, keep, exponent = (0x80, 0x03, 0x2C) if kind == "F16" else (0x80, 0x00, 0x3D)
        table = bytes((byte & (sign | keep)) | exponent for byte in range(256))
        noise[1::2] = noise[1::2].translate(table)
        if kind == "BF16":
            noise[0::2] = noise[0::2].translate(bytes(byte | 0x80 for byte in range(256)))
        return bytes(noise)
    for place, value in BLOCK_SCALES[kind]:
        for at, byte in enumerate(struct.pack("<e", value)):
            noise[place + at :: block_bytes] = bytes([byte]) * (count // block_bytes)
    return bytes(noise)


def _noise(name: str, count: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(count)


def _add_metadata(writer: GGUFWriter) -> None:
    pieces = vocabulary()
    writer.add_name("edgequant trial")
    writer.add_file_type(2)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(len(LAYERS))
    writer.add_feed_forward_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _ in pieces])
    writer.add_token_scores([-float(len(piece)) for piece, _ in pieces])
    writer.add_token_types([kind for _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
