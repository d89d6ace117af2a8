"""Does the GGUF compute what the Hugging Face model computes? Layer by layer, and in the logits.

A conversion can load and answer and still be another model: rows of a matrix in another order,
another rope base, a norm left out. Its answers are then quietly worse. A few prompts are evaluated
by transformers and by llama.cpp. How far apart the two may be is measured, not guessed:
transformers evaluates them twice, in 32-bit floats and with the rounding to 16 bits that llama.cpp
makes, and the GGUF must be as near to the rounded one as that is to the exact one, up to a factor.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgequant.core.errors import ConversionError
from edgequant.core.process import run_captured
from edgequant.core.progress import say, task
from edgequant.core.warm import warmed
from edgequant.models.checks.beginning import can_begin, write_beginning
from edgequant.models.formats.gguf import GgufInfo, read_gguf
from edgequant.models.tokenizer_check import QUESTIONS
from edgequant.models.vocabulary import Vocabulary

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

CHECK_VERSION = 1
"""Part of the artefact's key: raise it when the check becomes stricter."""

FACTOR = 3.0
"""So many times the rounding's own error is allowed."""
SPARE = 2e-3
"""What is allowed beside it (relative): functions that llama.cpp computes from tables."""
SPARE_KL = 1e-3
"""Likewise for the median divergence, in nats."""
FIRST_LAYERS = 2
"""So many are compared where the model does not fit."""
PROMPT_TOKENS = (64, 16)
"""Of a longer prompt, where positions tell, and of a short one."""
SMALL_PARAMETERS = 20_000_000
TIMEOUT_SECONDS = 3600.0
MEMORY_SHARE = 0.6
"""Of what is available; the rest is for the logits and for transformers itself."""
WHOLE_BYTES = 1 << 30
"""Of a model that takes more in 32-bit floats the first layers are compared, however much room
there is."""


@dataclass(frozen=True)
class Distance:
    """How far two computations of the same numbers are apart: relative, median over tokens."""

    name: str
    gguf: float
    """From the GGUF to transformers with llama.cpp's rounding."""
    rounding: float
    """What the rounding makes of itself."""

    @property
    def too_large(self) -> bool:
        """Whether it is another computation."""
        # Written so that NaN is too large.
        return not self.gguf <= FACTOR * self.rounding + SPARE


def check_logits(
    folder: Path, gguf: Path, library: Path, kind: Literal["f16", "bf16"], parameters: int
) -> dict[str, object]:
    """Compare what transformers and llama.cpp compute of a few prompts.

    Args:
        folder: Hugging Face model folder.
        gguf: the 16-bit file converted from it.
        library: the host build's ``libllama.so``.
        kind: the type of its matrices.
        parameters: numbers in all weights, which decides whether the whole model is compared.

    Returns:
        Which check was made and what it found, for the manifest.

    Raises:
        ConversionError: they differ; the message names the first layer that does.
    """
    header = read_gguf(gguf)
    blocks = header.metadata.get(f"{header.architecture}.block_count")
    if not isinstance(blocks, int) or blocks < 1:
        return _not_compared("the file does not say how many layers there are")
    layers = _layers_that_fit(folder, header, blocks, parameters)
    if not layers:
        return _not_compared("not even its first layers fit into memory in 32-bit floats")
    request = {
        "folder": str(folder),
        "gguf": str(gguf),
        "library": str(library),
        "kind": kind,
        "prompts": _prompts(gguf, library),
        "layers": layers,
        "whole": layers == blocks,
        # Threads that wait for each other cost more than they bring where there is little to do.
        "threads": len(os.sched_getaffinity(0))
        if layers == blocks and parameters > SMALL_PARAMETERS
        else 1,
    }
    with task(f"Comparing logits of {gguf.stem}"), tempfile.TemporaryDirectory() as place:
        return _compare(request, Path(place), gguf, blocks)


def _compare(request: dict[str, Any], place: Path, gguf: Path, blocks: int) -> dict[str, object]:
    import numpy as np

    if reason := _run("logits_hf", _for_hugging_face(request, place), place / "hf.npz"):
        return _not_compared(f"transformers cannot compute with the folder: {reason}")
    if reason := _run("logits_llama", request, place / "llama.npz"):
        return _not_compared(f"llama.cpp cannot compute every token's logits: {reason}")
    with np.load(place / "hf.npz") as theirs, np.load(place / "llama.npz") as ours:
        names = [f"layer-{n}" for n in range(request["layers"])] + ["logits"]
        compared = [name for name in names if _comparable(name, theirs, ours)]
        if not compared:
            return _not_compared("llama.cpp names no layer of this architecture")
        distances = [_distance(name, theirs, ours) for name in compared]
        report: dict[str, object] = {
            "compared": f"layers 0 to {request['layers'] - 1} of {blocks}"
            + (" and the logits" if request["whole"] else ""),
            "tokens": sum(map(len, request["prompts"])),
            "largest_layer_error": max((_rounded(d.gguf) for d in distances), default=None),
            "rounding_error": max((_rounded(d.rounding) for d in distances), default=None),
        }
        divergence = None
        if "logits" in compared:
            divergence = _divergence(theirs, ours)
            report |= divergence
    _judge(distances, divergence, gguf, blocks)
    return report


def _for_hugging_face(request: dict[str, Any], place: Path) -> dict[str, Any]:
    """The same of a smaller folder, where only the first layers are looked at."""
    tokens = sorted({token for prompt in request["prompts"] for token in prompt})
    first = place / "beginning"
    first.mkdir()
    folder = Path(request["folder"])
    if request["whole"] or not can_begin(folder, request["layers"]):
        return request
    write_beginning(folder, first, request["layers"], tokens)
    numbers = {token: number for number, token in enumerate(tokens)}
    prompts = [[numbers[token] for token in prompt] for prompt in request["prompts"]]
    return {**request, "folder": str(first), "prompts": prompts}


def _judge(
    distances: Sequence[Distance], divergence: dict[str, float] | None, gguf: Path, blocks: int
) -> None:
    wrong = next((distance for distance in distances if distance.too_large), None)
    if wrong is None:
        if divergence is None or (
            divergence["median_kl"] <= FACTOR * divergence["median_kl_of_rounding"] + SPARE_KL
        ):
            return
        wrong = Distance("logits", divergence["median_kl"], divergence["median_kl_of_rounding"])
    if wrong.name == "logits":
        before = "every layer agrees" if len(distances) > 1 else "no layer could be compared"
        where = f"the logits differ, {before}: the last norm or the output matrix is another"
    else:
        number = wrong.name.removeprefix("layer-")
        where = f"layer {number} of {blocks} (from 0) is the first that differs"
    raise ConversionError(
        f"the converted model does not compute what the Hugging Face model computes: {where} "
        f"(relative error {wrong.gguf:.2g}, where rounding to 16 bits makes {wrong.rounding:.2g})",
        subject=gguf,
        next_step="look at what config.json says of rope, norms, heads and experts, and at the "
        "converter's warnings; the weights may be in another order than this architecture has them",
    )


def _comparable(name: str, theirs: Any, ours: Any) -> bool:
    exact = f"exact/{name}"
    if exact not in theirs or name not in ours:
        return False
    # A vocabulary may be padded on one side.
    return name == "logits" or theirs[exact].shape == ours[name].shape


def _distance(name: str, theirs: Any, ours: Any) -> Distance:
    exact, rounded, got = theirs[f"exact/{name}"], theirs[f"rounded/{name}"], ours[name]
    width = min(exact.shape[1], got.shape[1])
    exact, rounded, got = exact[:, :width], rounded[:, :width], got[:, :width]
    return Distance(name, _relative(got, rounded), _relative(rounded, exact))


def _relative(values: Floats, reference: Floats) -> float:
    """Median over tokens: a mixture may send a few of them to other experts by a rounding."""
    import numpy as np

    size = np.linalg.norm(reference, axis=1)
    return float(np.median(np.linalg.norm(values - reference, axis=1) / np.maximum(size, 1e-30)))


def _divergence(theirs: Any, ours: Any) -> dict[str, float]:
    """Differences of logits and KL divergences (nats) from the exact ones."""
    import numpy as np

    exact, rounded, got = theirs["exact/logits"], theirs["rounded/logits"], ours["logits"]
    width = min(exact.shape[1], got.shape[1])
    apart = np.abs(got[:, :width] - exact[:, :width])
    of_gguf = _kl(exact[:, :width], got[:, :width])
    return {
        "largest_difference": _rounded(float(apart.max())),
        "mean_difference": _rounded(float(apart.mean())),
        "mean_kl": _rounded(float(of_gguf.mean())),
        "median_kl": _rounded(float(np.median(of_gguf))),
        "median_kl_of_rounding": _rounded(
            float(np.median(_kl(exact[:, :width], rounded[:, :width])))
        ),
        "same_top_token": _rounded(float(np.mean(got.argmax(1) == exact.argmax(1)))),
    }


def _kl(reference: Floats, values: Floats) -> npt.NDArray[np.float64]:
    """Kullback-Leibler divergence of each row, in nats."""
    import numpy as np

    def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, keepdims=True)
        logs: npt.NDArray[np.float64] = shifted - np.log(total)
        return logs

    p, q = log_softmax(reference), log_softmax(values)
    sums: npt.NDArray[np.float64] = (np.exp(p) * (p - q)).sum(axis=1)
    return sums


def _run(module: str, request: dict[str, Any], out: Path) -> str:
    """Run one side; "" or why it failed."""
    given = out.with_suffix(".json")
    given.write_text(json.dumps(request), encoding="utf-8")
    command = warmed([sys.executable, "-m", f"{__package__}.{module}", given, out])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    ended = run_captured(command, timeout_seconds=TIMEOUT_SECONDS, env=environment, apart=True)
    return "" if ended.status == 0 and out.is_file() else ended.failure


def _not_compared(reason: str) -> dict[str, object]:
    say(f"warning: logits were not compared: {reason}")
    return {"compared": "nothing", "reason": reason}


def _layers_that_fit(folder: Path, header: GgufInfo, blocks: int, parameters: int) -> int:
    """All of the layers, the first few, or 0, by the memory that is available."""
    room = _available_bytes() * MEMORY_SHARE
    if parameters * 4 <= min(room, WHOLE_BYTES):
        return blocks
    first = tuple(f"blk.{n}." for n in range(FIRST_LAYERS))
    few_rows = can_begin(folder, min(FIRST_LAYERS, blocks))
    needed = sum(
        tensor.elements * 4
        for tensor in header.tensors
        if tensor.name.startswith(first) or not (few_rows or tensor.name.startswith("blk."))
    )
    return min(FIRST_LAYERS, blocks) if needed <= room else 0


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def _prompts(gguf: Path, library: Path) -> list[list[int]]:
    texts = ("\n".join(QUESTIONS), QUESTIONS[-1])
    with Vocabulary(gguf, library) as vocabulary:
        return [
            list(vocabulary.tokenize(text, add_special=True)[:count])
            for text, count in zip(texts, PROMPT_TOKENS, strict=True)
        ]


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
