"""What every mirror is: something that answers from the very file that the board runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from edgequant.answers.prompts import Message
from edgequant.models.model_file import ModelFile

SEED = 0
MAX_TOKEN_ID = 2**31 - 1

StopReason = Literal["eos", "limit", "failed"]
"""Ended by itself, cut off, or given up on: a completion is never the last."""

# Greedy and nothing else: "temperature" at 0 keeps the first of the largest logits.
SAMPLING: dict[str, object] = {"temperature": 0.0, "samplers": ["temperature"], "seed": SEED}


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, as the mirror gave it."""

    token_ids: list[int]
    """All generated tokens, with the one that ended the answer."""
    pieces: list[bytes]
    """The bytes that each token adds to the text; none for a token that ended the answer."""
    text: str
    stop_reason: StopReason
    prompt_tokens: int
    prompt_seconds: float | None
    """None: the server does not tell."""
    decode_seconds: float | None
    counted: bool = False
    """The ids are not the server's own: its text was tokenized here."""


@dataclass(frozen=True, slots=True)
class Identity:
    """All of a kind of mirror that can change an answer: it enters the key of every answer."""

    settings: Mapping[str, object]
    """Plain values, one of which says the kind."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """The hex SHA-256 of each file, by its name."""
    llama_cpp_commit: str | None = None
    """What it was built from, if it was."""


class Mirror(Protocol):
    """Answers one request at a time; several of them work side by side."""

    @property
    def gives_token_ids(self) -> bool:
        """Whether the ids of an answer are the server's own; else they are counted here."""
        ...

    def apply_template(self, messages: Sequence[Message]) -> str:
        """The text that the model's own chat template makes of some turns, the answer's one open.

        Raises:
            MirrorError: the model has no template, or the server refuses the turns.
        """
        ...

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """Token ids of a text, special tokens in it read as such.

        Args:
            text: a rendered prompt, or what goes behind one.
            add_special: put what the model wants before a prompt (BOS), unless it is there.

        Raises:
            MirrorError: as :meth:`complete`.
        """
        ...

    def complete(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        stop: Sequence[str] = (),
        messages: Sequence[Message] = (),
    ) -> Completion:
        """Greedy continuation of a prompt.

        Args:
            prompt: text, in which special tokens count as such; or token ids, as they are.
            max_tokens: stop after so many.
            stop: texts that end the answer like an end-of-turn token does.
            messages: the turns that the prompt was made of, for a server that takes nothing else.

        Raises:
            MirrorError: this answer cannot be had, however often it was tried.
            MirrorGoneError: nor can any other: what answers is not there any more.
            MirrorRefusedError: the fault is the user's: prompt and answer together may not fit,
                or the server knows no such key or model.
        """
        ...

    def stop(self) -> None:
        """End it; may be called twice, and while another thread waits for an answer."""
        ...


class MirrorPool(Protocol):
    """Opens mirrors of one kind, for one model after another."""

    @property
    def identity(self) -> Identity:
        """What of the mirrors can change an answer.

        Raises:
            ToolMissingError: a program is missing.
        """
        ...

    @property
    def columns(self) -> Mapping[str, object]:
        """What every row of answers says of its mirror: ``slots`` and ``prompt_cache``."""
        ...

    @property
    def details(self) -> Mapping[str, object]:
        """What the manifest of answers says of the mirrors, once they have answered."""
        ...

    def open(
        self, model: ModelFile, *, wanted: int, logs: Path
    ) -> AbstractContextManager[Sequence[Mirror]]:
        """Mirrors of a model for the block, at most as many as there are answers wanted.

        Args:
            model: what answers.
            wanted: how many answers there are to be had.
            logs: folder for the output of programs.

        Raises:
            MirrorError: none can be had.
        """
        ...


@runtime_checkable
class ComparedPool(Protocol):
    """A pool whose answers are not always those of plain greedy decoding, and which shows it."""

    @property
    def compare(self) -> int:
        """How many questions are asked of both."""
        ...

    @property
    def reference(self) -> MirrorPool:
        """What its answers are compared with."""
        ...
