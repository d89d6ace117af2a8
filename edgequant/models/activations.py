"""What goes into a model's matrix products, by the weight that it is multiplied with.

The graph of llama.cpp is watched while it evaluates passages of tokens: of each product with a
weight its input is read where it lies. What is kept of it is a sum, so that memory is bounded by
the weights that are looked at, not by the tokens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgequant.core.errors import ConversionError
from edgequant.core.host import free_cores
from edgequant.models.formats.gguf import read_gguf
from edgequant.models.loaded import LoadedModel
from edgequant.models.native import (
    GET_ROWS,
    MAX_DIMENSIONS,
    MUL_MAT,
    MUL_MAT_ID,
    Tensor,
    decode,
    native,
)

BATCH_TOKENS = 512
BATCH_LOGITS = 1 << 24
"""Logits that a batch may have: it is made shorter where the vocabulary is large."""
F32 = 0

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
See = Callable[[str, int, Floats], None]
"""A weight, the number of its matrix (an expert's; else 0), and rows that it is multiplied with."""


@dataclass(frozen=True)
class Sums:
    """What is known of one weight's inputs.

    Attributes:
        values: sums over rows, one for each expert (or one): of squares, shape (experts, columns),
            or of products, shape (experts, columns, columns).
        counts: rows that were summed, shape (experts,).
    """

    values: Doubles
    counts: npt.NDArray[np.int64]


def squares(
    gguf: Path,
    library: Path,
    passages: Sequence[Sequence[int]],
    weights: Collection[str],
    *,
    threads: int | None = None,
    on_passage: Callable[[], None] = lambda: None,
) -> dict[str, Sums]:
    """Sums of squares of each column of the inputs, as llama-imatrix has them.

    Args:
        gguf: the model.
        library: the host build's ``libllama.so``.
        passages: token ids, each evaluated from an empty cache.
        weights: names of the tensors whose inputs are looked at; those that no product has (an
            embedding with an output matrix beside it) are not in what is returned.
        threads: of the CPU, by default one for each free core.
        on_passage: called after each of them.

    Raises:
        ToolMissingError: the bindings or the library are not there.
        ConversionError: llama.cpp cannot load or evaluate the model.
    """
    watched = partial(_summed, gguf, library, passages, weights, threads, on_passage)
    return watched(lambda rows: np.einsum("rc,rc->c", rows, rows, dtype=np.float64))


def hessians(
    gguf: Path,
    library: Path,
    passages: Sequence[Sequence[int]],
    weights: Collection[str],
    *,
    threads: int | None = None,
    on_passage: Callable[[], None] = lambda: None,
) -> dict[str, Sums]:
    """Sums of the outer products of the inputs: ``X.T @ X`` over all rows X.

    What a layer's quantization error does to its output is measured by it (half the Hessian of the
    squared error). It takes ``8 * columns ** 2`` bytes for each different input; weights with one
    input share one. Arguments and errors are those of :func:`squares`.
    """
    watched = partial(_summed, gguf, library, passages, weights, threads, on_passage)
    return watched(lambda rows: rows.T @ rows)


def samples(
    gguf: Path,
    library: Path,
    passages: Sequence[Sequence[int]],
    weights: Collection[str],
    *,
    rows: int,
    seed: int = 0,
    threads: int | None = None,
) -> dict[str, Floats]:
    """Some rows of each weight's inputs, drawn evenly from all passages; experts in one.

    Args:
        rows: at most so many of each.
        seed: of the draw.

    Returns:
        Shape (rows, columns) for each weight. Other arguments and errors: :func:`squares`.
    """
    rng = np.random.default_rng(seed)
    share = -(-rows // max(1, len(passages)))
    found: dict[str, list[Floats]] = {}

    def see(weight: str, _expert: int, values: Floats) -> None:
        chosen = rng.permutation(len(values))[:share]
        found.setdefault(weight, []).append(values[np.sort(chosen)].copy())

    same = _watch_all(gguf, library, passages, weights, see, threads, lambda: None)
    joined = {weight: np.concatenate(parts)[:rows] for weight, parts in found.items()}
    return {weight: joined[first] for weight, first in same.items()}


def _summed(
    gguf: Path,
    library: Path,
    passages: Sequence[Sequence[int]],
    weights: Collection[str],
    threads: int | None,
    on_passage: Callable[[], None],
    term: Callable[[Floats], npt.NDArray[Any]],
) -> dict[str, Sums]:
    found: dict[tuple[str, int], Doubles] = {}
    counts: dict[tuple[str, int], int] = {}

    def see(weight: str, expert: int, rows: Floats) -> None:
        key = (weight, expert)
        if key in found:
            found[key] += term(rows)
        else:
            found[key] = term(rows).astype(np.float64)
        counts[key] = counts.get(key, 0) + len(rows)

    same = _watch_all(gguf, library, passages, weights, see, threads, on_passage)
    experts = {tensor.name: tensor.matrices for tensor in read_gguf(gguf).tensors}
    joined = {
        first: _joined(first, experts.get(first, 1), found, counts) for first in set(same.values())
    }
    return {weight: joined[first] for weight, first in same.items()}


def _joined(
    weight: str,
    experts: int,
    found: dict[tuple[str, int], Doubles],
    counts: dict[tuple[str, int], int],
) -> Sums:
    like = next(value for (name, _), value in found.items() if name == weight)
    keys = [(weight, expert) for expert in range(experts)]
    # Popped, so that no sum is held twice.
    values = [found.pop(key) if key in found else np.zeros_like(like) for key in keys]
    stacked = values[0][None] if experts == 1 else np.stack(values)
    return Sums(stacked, np.array([counts.get(key, 0) for key in keys], dtype=np.int64))


def _watch_all(
    gguf: Path,
    library: Path,
    passages: Sequence[Sequence[int]],
    weights: Collection[str],
    see: See,
    threads: int | None,
    on_passage: Callable[[], None],
) -> dict[str, str]:
    same: dict[str, str] = {}
    longest = max(map(len, passages), default=0)
    with Watched(gguf, library, context=longest, threads=threads) as model:
        for passage in passages:
            same = model.see(passage, weights, see)
            on_passage()
    return same


class Watched(LoadedModel):
    """One model with its weights, its products watched. Let go of at the end of the block.

    Args:
        gguf: the model.
        library: the host build's ``libllama.so``.
        context: tokens of the longest passage.
        threads: of the CPU, by default one for each free core.
        writable: its weights lie in memory of its own, not in the file's.

    Raises:
        ToolMissingError: the bindings or the library are not there.
        ConversionError: llama.cpp cannot load it.
    """

    def __init__(
        self,
        gguf: Path,
        library: Path,
        *,
        context: int,
        threads: int | None = None,
        writable: bool = False,
    ) -> None:
        super().__init__(gguf, library)
        llama = self._llama
        self._watch = _Watch(native(llama))
        loading = llama.llama_model_default_params()
        loading.use_extra_bufts = False
        if writable:
            loading.load_mode = llama.LLAMA_LOAD_MODE_NONE
        self._load(loading)
        room = BATCH_LOGITS // max(1, self.vocabulary_size)
        self._batch_tokens = max(16, min(BATCH_TOKENS, room))
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = context
        parameters.n_batch = parameters.n_ubatch = self._batch_tokens
        parameters.n_threads = parameters.n_threads_batch = threads or free_cores()
        parameters.type_k = parameters.type_v = F32
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        # Kept for as long as the context may call it.
        self._callback = llama.ggml_backend_sched_eval_callback(self._watch)
        parameters.cb_eval = self._callback
        self._open(parameters)

    def see(self, tokens: Sequence[int], weights: Collection[str], see: See) -> dict[str, str]:
        """Evaluate a passage from an empty cache, up to the last of the weights.

        Args:
            tokens: at most as many as the context.
            weights: whose inputs are looked at.
            see: called for each input, which it must copy; where several weights have one input
                (q, k and v) it is called for the first of them only.

        Returns:
            Weight to the one whose inputs are its own too; for those that were multiplied.

        Raises:
            ConversionError: it cannot be evaluated, or an input is no number.
        """
        self._forget()
        self._watch.begin(weights, see)
        for start in range(0, len(tokens), self._batch_tokens):
            part = tokens[start : start + self._batch_tokens]
            self._watch.next_batch()
            status = decode(self._llama, self._context, part, start)
            if self._watch.error is not None:
                raise self._watch.error
            if status:
                raise self._failed(f"cannot evaluate it (status {status})")
        return self._watch.same


class _Watch:
    """llama.cpp's callback: asked before each node if it is to be shown, and shown it after."""

    def __init__(self, ggml: Any) -> None:
        self._ggml = ggml
        self._wanted: Collection[str] = ()
        self._see: See = lambda *_: None
        self._operations: dict[int, str] = {}
        self.same: dict[str, str] = {}
        self.tensors: dict[str, Tensor] = {}
        """First operands of all products and look-ups, by their names."""
        self.error: Exception | None = None
        self._first: dict[tuple[int, int], str] = {}
        self._all: frozenset[str] | None = None
        self._seen: set[str] = set()

    def begin(self, weights: Collection[str], see: See) -> None:
        self._wanted, self._see = frozenset(weights), see
        self.same, self.error, self._all, self._seen = {}, None, None, set()

    def next_batch(self) -> None:
        if self._seen:
            self._all = frozenset(self._seen)
        self._first, self._seen = {}, set()

    def __call__(self, address: int, ask: bool, _data: object) -> bool:
        # An exception must not go through llama.cpp: it is kept, and the evaluation ended.
        try:
            return self._called(address, ask)
        except Exception as error:
            self.error = error
            return False

    def _called(self, address: int, ask: bool) -> bool:
        node = Tensor.from_address(address)
        operation = self._operation(node.op)
        if operation not in (MUL_MAT, MUL_MAT_ID, GET_ROWS):
            return not ask
        weight = node.src[0].contents.name.decode(errors="replace")
        self.tensors[weight] = node.src[0].contents
        if operation == GET_ROWS:
            return not ask
        wanted = weight in self._wanted
        if ask or not wanted:
            return wanted or not ask
        by_expert = operation == MUL_MAT_ID
        chosen = ctypes.addressof(node.src[2].contents) if by_expert else 0
        given = (ctypes.addressof(node.src[1].contents), chosen)
        first = self._first.setdefault(given, weight)
        self.same[weight] = first
        if first == weight:
            self._show(node, weight, by_expert=by_expert)
        self._seen.add(weight)
        # What comes after the last weight that is looked at is not computed.
        complete = self._all if self._all is not None else self._wanted
        return self._seen != complete

    def _operation(self, number: int) -> str:
        if number not in self._operations:
            self._operations[number] = self._ggml.ggml_op_name(number).decode()
        return self._operations[number]

    def _show(self, node: Tensor, weight: str, *, by_expert: bool) -> None:
        given = node.src[1].contents
        if given.type != F32:
            raise ConversionError(f"the input of {weight} is not in 32-bit floats")
        values = _array(given, np.float32)
        if not np.isfinite(values).all():
            raise ConversionError(f"the input of {weight} has values that are no numbers")
        if not by_expert:
            self._see(weight, 0, values.reshape(-1, values.shape[-1]))
            return
        # Experts that each token chose, shape (tokens, chosen); inputs (tokens, chosen or 1, n).
        chosen = _array(node.src[2].contents, np.int32)[0, 0]
        inputs = np.broadcast_to(values[0], (*chosen.shape, values.shape[-1]))
        for expert in np.unique(chosen):
            self._see(weight, int(expert), inputs[chosen == expert])


def _array(tensor: Tensor, dtype: Any) -> npt.NDArray[Any]:
    """A tensor's numbers where they lie, shape in numpy's order (rows before columns)."""
    shape = tuple(tensor.ne[i] for i in reversed(range(MAX_DIMENSIONS)))
    strides = tuple(tensor.nb[i] for i in reversed(range(MAX_DIMENSIONS)))
    bytes_ = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + strides[-1]
    buffer = (ctypes.c_char * bytes_).from_address(tensor.data)
    return np.ndarray(shape, dtype, buffer, 0, strides)
