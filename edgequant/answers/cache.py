"""Answers kept from run to run: a killed run loses at most the answers being generated.

One SQLite file for each model and kind of mirror (the very program and its settings); inside it
each answer has its own key over the rendered prompt and how it was continued. So a changed
experiment, with more questions or one more budget, asks only what was not asked before.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from edgequant.answers.mirrors.mirror import SAMPLING, Completion, Identity, StopReason
from edgequant.core.errors import ArtefactError, DiskFullError
from edgequant.core.hashing import sha256_json
from edgequant.core.locks import shared

FORMAT = 1
"""Raised when what is kept changes its meaning: older files are then left alone."""

BUSY_SECONDS = 60.0
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """One generated answer, in the form that is kept."""

    token_ids: list[int]
    """All generated tokens, with the one that ended the answer."""
    token_texts: list[str]
    """What each token adds to the text: joined, the first k are the text cut at k tokens."""
    text: str
    stop_reason: StopReason
    prompt_tokens: int
    prompt_seconds: float | None
    """None: the mirror does not tell."""
    decode_seconds: float | None
    counted: bool = False
    """The ids are not the mirror's own: its text was tokenized here."""
    closing_start: int | None = None
    """Place of the first token that was put there to close the answer; None: it was not closed."""
    closing_tokens: int | None = None
    """How many were put there."""

    @property
    def failed(self) -> bool:
        """The mirror gave up: nothing was generated."""
        return self.stop_reason == "failed"


def make_answer(completion: Completion, stop: Sequence[str] = ()) -> Answer:
    """Turn a server's completion into what is kept.

    Args:
        completion: as the server gave it.
        stop: texts that end the answer; the text is cut before the first of them.
    """
    token_texts = decode_pieces(completion.pieces)
    text = "".join(token_texts)
    room = min((at for s in stop if (at := text.find(s)) >= 0), default=len(text))
    text = text[:room]
    for index, token_text in enumerate(token_texts):
        token_texts[index] = token_text[:room]
        room -= len(token_texts[index])
    return Answer(
        token_ids=completion.token_ids,
        token_texts=token_texts,
        text=text,
        stop_reason=completion.stop_reason,
        prompt_tokens=completion.prompt_tokens,
        prompt_seconds=completion.prompt_seconds,
        decode_seconds=completion.decode_seconds,
        counted=completion.counted,
    )


def decode_pieces(pieces: Sequence[bytes]) -> list[str]:
    """Text of each token: a character made of several tokens belongs to the last of them.

    A character that is never completed adds nothing, as in llama-server; bytes that can be no
    character become U+FFFD.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(piece) for piece in pieces]


def answer_key(rendered_prompt: str, max_tokens: int, stop: Sequence[str]) -> str:
    """The key of one answer within its model's file."""
    return sha256_json([rendered_prompt, max_tokens, list(stop), SAMPLING])


def closed_key(
    rendered_prompt: str, kept: Sequence[int], text: str, max_tokens: int, stop: Sequence[str]
) -> str:
    """The key of an answer that was closed by a text behind its first tokens.

    The model's file and the program, which its file of answers is named for, make one sequence of
    tokens of all that.
    """
    return sha256_json([rendered_prompt, list(kept), text, max_tokens, list(stop), SAMPLING])


def cache_file(folder: Path, *, model_sha256: str, identity: Identity) -> Path:
    """The file that holds the answers of one model in one kind of mirror."""
    # Values without their names, in the order they were given: the form of the first files kept.
    parts = [identity.llama_cpp_commit, *identity.inputs.values(), *identity.settings.values()]
    return folder / f"{sha256_json([FORMAT, model_sha256, *parts])[:24]}.sqlite"


class AnswerCache:
    """The kept answers of one model; two processes may use it at once.

    Raises:
        ArtefactError: the file is damaged.
        DiskFullError: an answer cannot be kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as held:
            # Whoever prunes sees that the file is in use.
            lock = path.with_name(f"{path.name}.lock")
            held.enter_context(shared(lock, "Waiting for another edgequant that prunes answers"))
            self._connection = self._try(self._open)
            held.callback(self._connection.close)
            self._held = held.pop_all()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        # With a write-ahead log each row survives our death as soon as it is written, at the
        # cost of no disk synchronisation of its own.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        for table in ("answers", "renderings"):
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
                " WITHOUT ROWID"
            )
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._held.close()

    def get(self, key: str) -> Answer | None:
        """A kept answer."""
        value = self._get("answers", key)
        return None if value is None else Answer(**json.loads(value))

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer; on disk when this returns."""
        self._put("answers", key, json.dumps(asdict(answer), ensure_ascii=True))

    def get_rendering(self, key: str) -> str | None:
        """What the model's template made of some turns."""
        return self._get("renderings", key)

    def put_rendering(self, key: str, rendered_prompt: str) -> None:
        """Keep what the model's template made of some turns."""
        self._put("renderings", key, rendered_prompt)

    def _get(self, table: str, key: str) -> str | None:
        def select() -> str | None:
            row = self._connection.execute(
                f"SELECT value FROM {table} WHERE key = ?", (key,)
            ).fetchone()
            return None if row is None else str(row[0])

        return self._try(select)

    def _put(self, table: str, key: str, value: str) -> None:
        self._try(
            lambda: self._connection.execute(
                f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, value)
            )
        )

    def _try(self, action: Callable[[], _Result]) -> _Result:
        try:
            return action()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise DiskFullError(
                    "no space left for answers",
                    subject=self.path,
                    next_step="free some space; what was generated so far is kept",
                ) from error
            if isinstance(error, sqlite3.OperationalError):
                raise ArtefactError(
                    f"the kept answers cannot be read or written: {error}",
                    subject=self.path,
                    next_step="see that this file can be written and that no other run holds it",
                ) from error
            raise ArtefactError(
                f"the kept answers cannot be used: {error}",
                subject=self.path,
                next_step="delete this file; its answers are then generated again",
            ) from error
