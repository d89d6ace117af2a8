"""A model's first layers as a folder of its own: what transformers can load where memory is short.

Only these layers' tensors are read, and of the embedding only the rows of some tokens, which are
numbered anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgequant.core.json_file import read_json
from edgequant.models.checks.config import EMBEDDING, LAYER
from edgequant.models.checks.safetensors import StoredTensor, data_offset, read_header

READ_BYTES = 1 << 20
HEADS = ("lm_head.weight",)

Place = tuple[Path, StoredTensor]


def can_begin(folder: Path, layers: int) -> bool:
    """Whether the first layers can be told from the rest, by the standard names in safetensors."""
    return "text_config" not in _config_of(folder) and _chosen(folder, layers) is not None


def write_beginning(folder: Path, out: Path, layers: int, tokens: Sequence[int]) -> None:
    """Write the first layers of a model.

    Args:
        folder: Hugging Face model folder, of which :func:`can_begin` says so.
        out: an empty folder that becomes one.
        layers: how many.
        tokens: ids, each once; the first becomes 0, and so on.
    """
    chosen = _chosen(folder, layers)
    assert chosen is not None
    _write(out / "model.safetensors", chosen, tokens)
    config = _changed(_config_of(folder), layers, len(tokens))
    (out / "config.json").write_text(json.dumps(config), encoding="utf-8")


def _config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = read_json(folder / "config.json")
    return config


def _chosen(folder: Path, layers: int) -> dict[str, Place] | None:
    """Tensors of the first layers, and what stands before and after all; None if names differ."""
    tensors = {
        name: (file, tensor)
        for file in sorted(folder.glob("model*.safetensors"))
        for name, tensor in read_header(file).items()
    }
    chosen: dict[str, Place] = {}
    found = set()
    for name, (file, tensor) in tensors.items():
        if (of_layer := LAYER.fullmatch(name)) is not None:
            found.add(int(of_layer[1][:9]))
            if int(of_layer[1][:9]) >= layers:
                continue
        elif name in HEADS or EMBEDDING.fullmatch(name):
            if len(tensor.shape) != 2:
                return None
        elif len(tensor.shape) > 1:
            return None
        chosen[name] = (file, tensor)
    embedded = any(EMBEDDING.fullmatch(name) for name in chosen)
    return chosen if embedded and set(range(layers)) <= found else None


def _changed(config: Mapping[str, Any], layers: int, tokens: int) -> dict[str, Any]:
    changed = {**config, "num_hidden_layers": layers, "vocab_size": tokens}
    if isinstance(config.get("layer_types"), list):
        changed["layer_types"] = config["layer_types"][:layers]
    # They number rows that are no longer there.
    for key in ("pad_token_id", "bos_token_id", "eos_token_id"):
        changed[key] = None
    return changed


def _write(out: Path, chosen: Mapping[str, Place], tokens: Sequence[int]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (_, tensor) in chosen.items():
        shape, size = tensor.shape, tensor.data_offsets[1] - tensor.data_offsets[0]
        if _by_token(name):
            size = size // shape[0] * len(tokens)
            shape = [len(tokens), *shape[1:]]
        header[name] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with out.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, place in chosen.items():
            for piece in _pieces(place, tokens if _by_token(name) else None):
                stream.write(piece)


def _by_token(name: str) -> bool:
    return name in HEADS or EMBEDDING.fullmatch(name) is not None


def _pieces(place: Place, rows: Iterable[int] | None) -> Iterator[bytes]:
    """A tensor's bytes, or some of its rows."""
    file, tensor = place
    start = data_offset(file) + tensor.data_offsets[0]
    size = tensor.data_offsets[1] - tensor.data_offsets[0]
    with file.open("rb") as stream:
        if rows is not None:
            row_bytes = size // max(tensor.shape[0], 1)
            for row in rows:
                stream.seek(start + row * row_bytes)
                yield stream.read(row_bytes)
            return
        stream.seek(start)
        for _ in range(math.ceil(size / READ_BYTES)):
            piece = stream.read(min(READ_BYTES, size))
            size -= len(piece)
            yield piece
