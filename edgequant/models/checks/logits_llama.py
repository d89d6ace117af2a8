"""What llama.cpp computes of some tokens: each layer's output, and the logits.

    python -m edgequant.models.checks.logits_llama REQUEST OUT

A process of its own, since llama.cpp may abort. REQUEST is a JSON object with ``gguf``,
``library``, ``prompts`` (lists of token ids), ``layers`` (how many are looked at), ``whole``
(whether all of the model is computed) and ``threads``. OUT becomes an npz file with ``layer-I`` of
shape (tokens, hidden) for every layer I and, where all is computed, ``logits`` of
shape (tokens, vocabulary); tokens are those of all prompts in a row.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.models.native import decode, native
from edgequant.models.vocabulary import bindings

Floats = npt.NDArray[np.float32]

LAYER_OUTPUT = "l_out-"
"""What llama.cpp's graphs call the output of a layer, before its number."""
SPARE_TOKENS = 8
F32 = 0


def compute(request: dict[str, Any]) -> dict[str, Floats]:
    """Evaluate every prompt with 32-bit keys and values and without flash attention."""
    llama = bindings(Path(request["library"]))
    prompts: list[list[int]] = request["prompts"]
    wanted: int = request["layers"]
    found: dict[str, list[Floats]] = {}
    ggml = native(llama)

    def look(tensor: int, ask: bool, _data: object) -> bool:
        name = ggml.ggml_get_name(tensor).decode(errors="replace")
        number = name.removeprefix(LAYER_OUTPUT)
        if not name.startswith(LAYER_OUTPUT) or not number.isdigit() or int(number) >= wanted:
            return not ask
        if ask:
            return True
        values = np.empty(ggml.ggml_nelements(tensor), np.float32)
        ggml.ggml_backend_tensor_get(tensor, values.ctypes.data, 0, values.nbytes)
        found.setdefault(f"layer-{number}", []).append(values)
        # False ends the computation: what comes after the last layer that is looked at is not read.
        return bool(request["whole"]) or int(number) < wanted - 1

    model = llama.llama_model_load_from_file(
        request["gguf"].encode(), llama.llama_model_default_params()
    )
    parameters = llama.llama_context_default_params()
    longest = max(map(len, prompts)) + SPARE_TOKENS
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = longest
    parameters.n_threads = parameters.n_threads_batch = request["threads"]
    parameters.type_k = parameters.type_v = F32
    parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    callback = llama.ggml_backend_sched_eval_callback(look)
    parameters.cb_eval = callback
    context = llama.llama_init_from_model(model, parameters)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    for prompt in prompts:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        status = decode(llama, context, prompt)
        if status:
            raise RuntimeError(f"llama_decode ended with {status}")
        if request["whole"]:
            logits = llama.llama_get_logits(context)
            values = np.ctypeslib.as_array(logits, (len(prompt), vocabulary))
            found.setdefault("logits", []).append(values.astype(np.float32).ravel())
    tokens = sum(map(len, prompts))
    return {name: np.concatenate(parts).reshape(tokens, -1) for name, parts in found.items()}


def main() -> None:
    """Answer one request."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    np.savez(sys.argv[2], **compute(request))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
