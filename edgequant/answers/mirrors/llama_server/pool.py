"""Several llama-servers of one model, side by side."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

from edgequant.answers.mirrors.llama_server.process import FlashAttention, ServerPolicy
from edgequant.answers.mirrors.llama_server.server import LlamaServer
from edgequant.answers.mirrors.mirror import Identity
from edgequant.answers.mirrors.tokenizer import OpenTokenizer, tokenizers_of
from edgequant.core.errors import ExperimentError, ToolMissingError
from edgequant.core.hashing import sha256_file
from edgequant.core.host import available_memory_bytes
from edgequant.models.model_file import ModelFile
from edgequant.models.steps.step import HostBuild

PROGRAM = "llama-server"
FAST_SLOTS = 4
MODES = ("reference", "fast")
LEAST_COMPARED = 32
"""Questions that a fast mode is compared by, where there are so many."""
MEMORY_SHARE = 0.8
"""Of the memory that is available, how much the servers may take together."""


@dataclass(frozen=True)
class LlamaServers:
    """Servers of one slot each and without a prompt cache, unless a policy says otherwise.

    Raises:
        ExperimentError: a number below 1.
    """

    binary: Path
    """llama-server, built from ``llama_cpp_commit``."""
    llama_cpp_commit: str
    open_tokenizer: OpenTokenizer
    policy: ServerPolicy = field(default_factory=ServerPolicy)
    """One thread is the quickest for small models."""
    workers: int | None = None
    """Servers at once; by default as many as this machine's cores and memory allow."""

    def __post_init__(self) -> None:
        numbers = {
            "threads": self.policy.threads,
            "parallel": self.policy.slots,
            "context": self.policy.context,
            "workers": self.workers,
        }
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ExperimentError(f"{name} is {number}, it must be at least 1")

    @classmethod
    def of_host(
        cls,
        host: HostBuild,
        *,
        mode: Literal["reference", "fast"] = "reference",
        parallel: int | None = None,
        compare: int = LEAST_COMPARED,
        threads: int = 1,
        context: int = 4096,
        cache_type_k: str = "f16",
        cache_type_v: str = "f16",
        flash_attention: FlashAttention = "auto",
        workers: int | None = None,
    ) -> LlamaServers:
        """Those of this machine's build.

        Args:
            host: has the program.
            mode: ``reference``: servers of one slot each and without a prompt cache; ``fast``: of
                several slots, which keep prompts, and are compared with the reference.
            parallel: slots of each server in the fast mode.
            compare: questions that the fast mode asks in reference mode, too.
            threads: of each server.
            context: tokens that prompt and answer may have together.
            cache_type_k: type of the key cache.
            cache_type_v: type of the value cache.
            flash_attention: on, off, or as llama.cpp chooses.
            workers: servers at once.

        Raises:
            ExperimentError: a setting is wrong, or goes with the other mode.
        """
        _check_modes(mode, flash_attention, parallel, compare)
        fast = mode == "fast"
        policy = ServerPolicy(
            slots=(FAST_SLOTS if parallel is None else parallel) if fast else 1,
            prompt_cache=fast,
            threads=threads,
            context=context,
            cache_type_k=cache_type_k,
            cache_type_v=cache_type_v,
            flash_attention=flash_attention,
        )
        common = (host.binary(PROGRAM), host.llama_cpp_commit, tokenizers_of(host), policy, workers)
        return FastLlamaServers(*common, compare) if fast else cls(*common)

    @cached_property
    def identity(self) -> Identity:
        """See :attr:`edgequant.answers.mirrors.mirror.MirrorPool.identity`."""
        if not self.binary.is_file():
            raise ToolMissingError(
                "no llama-server here",
                subject=self.binary,
                next_step="run edgequant build --target host",
            )
        return Identity(
            settings={"policy": self.policy.as_dict()},
            inputs={PROGRAM: sha256_file(self.binary)},
            llama_cpp_commit=self.llama_cpp_commit,
        )

    @property
    def columns(self) -> Mapping[str, object]:
        """See :attr:`edgequant.answers.mirrors.mirror.MirrorPool.columns`."""
        return {"slots": self.policy.slots, "prompt_cache": self.policy.prompt_cache}

    @property
    def details(self) -> Mapping[str, object]:
        """See :attr:`edgequant.answers.mirrors.mirror.MirrorPool.details`."""
        return {"kind": PROGRAM, "token_ids": "the server's own"}

    @contextlib.contextmanager
    def open(self, model: ModelFile, *, wanted: int, logs: Path) -> Iterator[Sequence[LlamaServer]]:
        """See :meth:`edgequant.answers.mirrors.mirror.MirrorPool.open`; they load side by side."""
        with contextlib.ExitStack() as stack:
            tokenizer = stack.enter_context(self.open_tokenizer(model))
            servers = []
            slots = self.policy.slots
            for number in range(min(self._count(model), -(-wanted // slots))):
                log = logs / f"{PROGRAM}-{model.name}-{number}.log"
                server = LlamaServer(
                    self.binary, model.path, log=log, policy=self.policy, tokenizer=tokenizer
                )
                stack.callback(server.stop)
                server.start()
                servers.append(server)
            for server in servers:
                server.wait_until_ready()
            # Each slot is a mirror; one of each server comes first, as few answers share them all.
            yield (servers * slots)[:wanted]

    def _count(self, model: ModelFile) -> int:
        return self.workers or default_workers(
            self.policy.threads,
            model.bytes,
            len(os.sched_getaffinity(0)),
            available_memory_bytes(),
        )


@dataclass(frozen=True)
class FastLlamaServers(LlamaServers):
    """Servers of several slots that keep prompts: quicker, and not always the same tokens.

    Several answers in one batch are summed up in another order than one alone, and a token that
    leads by a hair may change. How often is found out by asking some questions in both modes.
    """

    compare: int = LEAST_COMPARED
    """Questions that are asked in reference mode, too."""

    @property
    def reference(self) -> LlamaServers:
        """What it is compared with: all the same, but one answer at a time."""
        policy = replace(self.policy, slots=1, prompt_cache=False)
        return LlamaServers(
            self.binary, self.llama_cpp_commit, self.open_tokenizer, policy, self.workers
        )


def _check_modes(mode: str, flash_attention: str, parallel: int | None, compare: int) -> None:
    known = {"mode": (mode, MODES), "flash_attention": (flash_attention, get_args(FlashAttention))}
    for name, (value, values) in known.items():
        if value not in values:
            raise ExperimentError(f"{name} is {value!r}, it must be one of {', '.join(values)}")
    if mode == "reference" and parallel is not None:
        raise ExperimentError("parallel goes with the fast mode")
    if compare < LEAST_COMPARED:
        raise ExperimentError(f"compare is {compare}, it must be at least {LEAST_COMPARED}")


def default_workers(threads: int, model_bytes: int, cores: int, available_bytes: int) -> int:
    """Servers to run at once: as many as the cores feed and the memory holds, at least one.

    A server is taken to need twice its model: llama.cpp repacks weights into a second copy.
    """
    by_memory = int(available_bytes * MEMORY_SHARE // max(2 * model_bytes, 1))
    return max(1, min(cores // threads, by_memory))
