"""Does llama.cpp load a GGUF, and compute with it? Tried once, before anything is made of it.

A file can be whole and still be none that llama.cpp can load: a tensor is missing, or has another
shape than the header says. Run as a program of its own, since llama.cpp may abort on such a file:

    python -m edgequant.models.load_check GGUF LIBRARY
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from pathlib import Path

from pydantic import BaseModel, ValidationError

from edgequant.core.errors import ConversionError
from edgequant.core.process import run_captured
from edgequant.core.progress import task
from edgequant.core.warm import warmed
from edgequant.models.native import ERROR_LEVEL

CHECK_VERSION = 2
"""Part of the artefact's key: raise it when the check becomes stricter."""

TIMEOUT_SECONDS = 3600.0
CONTEXT_TOKENS = 64
SMALL_BYTES = 40 << 20
"""Of a smaller file one thread computes: others would wait for each other more than they help."""
KEPT_MESSAGES = 4


class LoadReport(BaseModel):
    """What one evaluation gave."""

    loaded: bool
    finite: bool = False
    """Every logit is a number."""
    messages: list[str] = []
    """llama.cpp's own words for what went wrong."""


def check_loads(gguf: Path, library: Path) -> dict[str, object]:
    """Load a model with its weights and evaluate one token.

    Args:
        gguf: the model.
        library: the host build's ``libllama.so``.

    Returns:
        Which check was made, for the manifest.

    Raises:
        ConversionError: llama.cpp cannot load it, dies of it, or computes no numbers with it.
    """
    command = [sys.executable, "-m", __name__, gguf, library]
    with task(f"Loading {gguf.stem} once"):
        ended = run_captured(warmed(command), timeout_seconds=TIMEOUT_SECONDS)
    last = ended.output.strip().splitlines()[-1:] or [""]
    try:
        report = LoadReport.model_validate_json(last[0])
    except ValidationError:
        raise ConversionError(
            f"llama.cpp dies of the converted file: {_how(ended.status)}; its last lines:\n  "
            + "\n  ".join(ended.output.strip().splitlines()[-KEPT_MESSAGES:]),
            subject=gguf,
        ) from None
    if not report.loaded:
        said = "; ".join(report.messages) or "it gives no reason"
        raise ConversionError(
            f"llama.cpp cannot load the converted file: {said}",
            subject=gguf,
            next_step="compare config.json with the weights' shapes: the converter believed it",
        )
    if not report.finite:
        raise not_finite(gguf)
    return {"loaded": True, "evaluated_tokens": 1}


def not_finite(gguf: Path, tensor: str | None = None) -> ConversionError:
    """The error for weights that are no numbers.

    Args:
        gguf: the converted file.
        tensor: that has them, where it is known.
    """
    where = f": {tensor} holds NaN or infinite values" if tensor else ""
    return ConversionError(
        f"the converted model computes no numbers (NaN or infinite){where}",
        subject=gguf,
        next_step="look for NaN in the weights; try --output-type bf16 where f16 overflows",
    )


def _how(status: int | None) -> str:
    if status is None:
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    if status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"


def evaluate_once(gguf: Path, library: Path) -> LoadReport:
    """Load a model in this process and evaluate its first token."""
    import ctypes

    from edgequant.models.vocabulary import bindings

    llama = bindings(library)
    errors: list[str] = []

    def keep(level: int, text: bytes, _data: object) -> None:
        if level == ERROR_LEVEL:
            errors.append(text.decode(errors="replace").strip())

    callback = llama.llama_log_callback(keep)
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    model = llama.llama_model_load_from_file(str(gguf).encode(), llama.llama_model_default_params())
    if not model:
        return LoadReport(loaded=False, messages=errors[:KEPT_MESSAGES])
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = CONTEXT_TOKENS
    # A core is left for what reads the file through meanwhile: threads wait for the slowest.
    free_cores = max(len(os.sched_getaffinity(0)) - 1, 1)
    threads = 1 if gguf.stat().st_size < SMALL_BYTES else free_cores
    parameters.n_threads = parameters.n_threads_batch = threads
    context = llama.llama_init_from_model(model, parameters)
    if not context:
        return LoadReport(loaded=False, messages=errors[:KEPT_MESSAGES])
    vocabulary = llama.llama_model_get_vocab(model)
    first = max(llama.llama_vocab_bos(vocabulary), 0)
    batch = llama.llama_batch_get_one((llama.llama_token * 1)(first), 1)
    if llama.llama_decode(context, batch) != 0:
        return LoadReport(loaded=False, messages=errors[:KEPT_MESSAGES])
    logits = llama.llama_get_logits(context)
    count = llama.llama_vocab_n_tokens(vocabulary)
    return LoadReport(loaded=True, finite=all(math.isfinite(logits[i]) for i in range(count)))


def main() -> None:
    """Print the report as the last line."""
    report = evaluate_once(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(report.model_dump()), flush=True)


if __name__ == "__main__":
    main()
