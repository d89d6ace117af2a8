"""Tiny Hugging Face Llama folders with random weights and a real SentencePiece tokenizer."""

from __future__ import annotations

import functools
import io
import json
import math
import random
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MARKERS = ("<|im_start|>", "<|im_end|>")
SPECIAL = ("<unk>", *MARKERS)
VOCABULARY = 400
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] "
    "+ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def safetensors(tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> bytes:
    """Name to (dtype, shape, data) as one safetensors file."""
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, shape, content) in tensors.items():
        end = len(data) + len(content)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), end]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def drop_tensor(path: Path, name: str) -> None:
    """Write a safetensors file anew without one of its tensors."""
    whole = path.read_bytes()
    (length,) = struct.unpack_from("<Q", whole)
    header = json.loads(whole[8 : 8 + length])
    data = whole[8 + length :]
    del header[name]
    path.write_bytes(
        safetensors(
            {
                kept: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
                for kept, entry in header.items()
            }
        )
    )


def llama_weights(hidden: int, feed_forward: int, layers: int, vocabulary: int) -> bytes:
    """Random bfloat16 weights of a Llama with tied embeddings, one KV head for two heads."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        shapes |= {
            at + "self_attn.q_proj.weight": (hidden, hidden),
            at + "self_attn.k_proj.weight": (hidden // 2, hidden),
            at + "self_attn.v_proj.weight": (hidden // 2, hidden),
            at + "self_attn.o_proj.weight": (hidden, hidden),
            at + "mlp.gate_proj.weight": (feed_forward, hidden),
            at + "mlp.up_proj.weight": (feed_forward, hidden),
            at + "mlp.down_proj.weight": (hidden, feed_forward),
            at + "input_layernorm.weight": (hidden,),
            at + "post_attention_layernorm.weight": (hidden,),
        }
    shapes["model.norm.weight"] = (hidden,)
    rng = random.Random(0)
    tensors = {}
    for name, shape in shapes.items():
        count = math.prod(shape)
        # The upper half of a float32 is a bfloat16: magnitudes around 0.03, both signs.
        numbers = [0x3D00 | rng.getrandbits(7) | rng.getrandbits(1) << 15 for _ in range(count)]
        tensors[name] = ("BF16", shape, struct.pack(f"<{count}H", *numbers))
    return safetensors(tensors)


@functools.cache
def sentencepiece_model(*, markers_are_control: bool) -> bytes:
    """Train a BPE of 400 pieces; the markers are control pieces, or ordinary ones."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as protobuf

    words = ("how", "many", "eggs", "has", "she", "left", "after", "May", "if", "half", "of")
    rng = random.Random(1)
    lines = [" ".join(rng.choices(words, k=12)) + f" {rng.randint(0, 99999)}" for _ in range(400)]
    lines += ["Conclude with your final answer within \\boxed{}.", "system user assistant"] * 9
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        unk_piece=SPECIAL[0],
        bos_piece=SPECIAL[1],
        eos_piece=SPECIAL[2],
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    if markers_are_control:
        return out.getvalue()
    model = protobuf.ModelProto()
    model.ParseFromString(out.getvalue())
    for piece in model.pieces:
        if piece.piece in MARKERS:
            piece.type = protobuf.ModelProto.SentencePiece.NORMAL
            piece.score = -1e9
    return model.SerializeToString()


@functools.cache
def fast_tokenizer(model: bytes, *, markers_are_special: bool) -> str:
    """The tokenizer.json that equals a SentencePiece model."""
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    ranks = {
        pieces.id_to_piece(i): (pieces.get_score(i), i)
        for i in range(pieces.get_piece_size())
        if not (pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i))
    }
    merges = sorted(
        (-score, ranks[piece[:cut]][1], piece[:cut], piece[cut:])
        for piece, (score, _) in ranks.items()
        for cut in range(1, len(piece))
        if piece[:cut] in ranks and piece[cut:] in ranks
    )
    tokenizer = Tokenizer(
        models.BPE(
            vocab={pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())},
            merges=[(left, right) for *_, left, right in merges],
            unk_token=SPECIAL[0],
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = SPECIAL if markers_are_special else SPECIAL[:1]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    text: str = tokenizer.to_str()
    return text


def write_llama_folder(
    folder: Path,
    *,
    hidden: int = 256,
    heads: int = 4,
    feed_forward: int = 512,
    layers: int = 1,
    dtype: str = "bfloat16",
    markers_in_sentencepiece: bool = True,
    markers_in_hugging_face: bool = True,
    add_bos: bool = False,
    add_prefix_space: bool = False,
) -> Path:
    """Write everything a conversion needs."""
    folder.mkdir(parents=True)
    model = sentencepiece_model(markers_are_control=markers_in_sentencepiece)
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "tokenizer.json").write_text(
        fast_tokenizer(model, markers_are_special=markers_in_hugging_face)
    )
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": add_bos,
        "add_eos_token": False,
        # Without it llama.cpp puts a space in front of every text.
        "add_prefix_space": add_prefix_space,
        "unk_token": SPECIAL[0],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": feed_forward,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": dtype,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "model.safetensors").write_bytes(
        llama_weights(hidden, feed_forward, layers, VOCABULARY)
    )
    return folder
