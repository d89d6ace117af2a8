"""Requests to a server of others: bounded in time and size, tried again, and given up on.

Nothing that a server does is trusted: how long it takes, how much it sends, and what. A key is
sent to the server's own address alone, and stands in no message.
"""

from __future__ import annotations

import contextlib
import email.utils
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx

from edgequant.core.errors import ExperimentError, MirrorError, MirrorGoneError, MirrorRefusedError
from edgequant.core.json_file import parse_json
from edgequant.core.text import printable

CONNECT_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 300.0
MAX_BODY_BYTES = 64 << 20
MAX_MESSAGE = 300
FAILED_IN_A_ROW = 4
"""A server that gave nothing for so many answers, or for twice as many as it is asked at once, is
as good as gone."""
TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
ANSWERS = "/completion", "/completions"
"""Ends of the paths that give an answer; all others are answered beside it."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Patience:
    """How long a server is borne with.

    Attributes:
        tries: how often one answer is asked for.
        pause_seconds: before the second try; twice as long before each further one.
        answer_seconds: a server that takes longer over one answer has stalled.
        loading_seconds: a server may load its model for so long before the first answer.
    """

    tries: int = 6
    pause_seconds: float = 1.0
    answer_seconds: float = 900.0
    loading_seconds: float = 600.0

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Seconds to wait after a failed try, the first being 1; the same in every run."""
        ours = min(self.pause_seconds * 2.0 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
        return ours if retry_after is None else max(ours, retry_after)


class TryAgainError(Exception):
    """One try failed, and another may not.

    Args:
        cause: why.
        retry_after: seconds that the server asks to wait.
        silent: nothing came from the server at all.
    """

    def __init__(
        self, cause: str, *, retry_after: float | None = None, silent: bool = False
    ) -> None:
        super().__init__(cause)
        self.retry_after = retry_after
        self.silent = silent


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """What the server says is wrong, fit to be shown."""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            value = parse_json(self.body)
            error = value.get("error", value)
            said = error if isinstance(error, str) else error.get("message", value.get("detail"))
            if isinstance(said, str) and said.strip():
                return printable(said.strip())[:MAX_MESSAGE]
        return f"HTTP status {self.status}"


class Endpoint:
    """One server. Several threads may ask it at once.

    Args:
        url: where it is, with or without ``/v1`` at the end.
        key: sent as a bearer token.
        patience: how long it is borne with.
        parallel: how many answers it is asked for at once.

    Raises:
        ExperimentError: no such URL.
    """

    def __init__(
        self, url: str, *, key: str | None = None, patience: Patience, parallel: int = 1
    ) -> None:
        parts = _checked_url(url)
        self.patience = patience
        self.allow(parallel)
        self.answers = 0
        """How many it has given."""
        self.failed_in_a_row = 0
        self._key = key
        self._stopped = threading.Event()
        self._gone: MirrorGoneError | None = None
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        path = parts.path.rstrip("/").removesuffix("/v1")
        host = (parts.hostname or "").strip("[]")
        self.url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, "", ""))
        """For messages and manifests: without a user's name and password."""
        headers = {"Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(
            base_url=urlunsplit((parts.scheme, parts.netloc, path, "", "")),
            headers=headers,
            # A proxy from the environment must never stand between us and the loopback.
            trust_env=host not in LOOPBACK,
            follow_redirects=False,
            limits=httpx.Limits(max_connections=None),
        )

    @property
    def is_loopback(self) -> bool:
        """Whether it runs on this machine: it then sees the same files."""
        return urlsplit(self.url).hostname in LOOPBACK

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One answer, tried for as often as patience allows.

        Raises:
            MirrorError: none, after the last try.
            MirrorGoneError: nor does the server say anything else.
            MirrorRefusedError: the server refuses what it is asked.
        """

        def once() -> dict[str, Any]:
            reply = self._reply_once(method, path, body)
            if reply.status != httpx.codes.OK:
                raise self.refused(reply, path)
            return _json_object(reply)

        return self._tried(once)

    def reply(self, method: str, path: str, body: object = None) -> Reply:
        """As :meth:`request`, but whatever the server says in the end, refusals too."""
        return self._tried(lambda: self._reply_once(method, path, body))

    def ask(self, method: str, path: str, body: object = None, *, seconds: float) -> Reply:
        """One try, whatever comes of it.

        Raises:
            TryAgainError: nothing whole came.
        """
        started = time.monotonic()
        timeout = httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        try:
            with self._client.stream(
                method, path, json=body, timeout=timeout, extensions={"trace": self._trace}
            ) as response:
                return Reply(
                    response.status_code,
                    dict(response.headers),
                    _bounded(response, started + seconds),
                )
        except httpx.TimeoutException as error:
            silent = isinstance(error, httpx.ConnectTimeout)
            raise TryAgainError(f"nothing came for {seconds:.0f} s", silent=silent) from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, RuntimeError) as error:
            # RuntimeError: another thread has closed the client.
            raise TryAgainError(
                f"the connection broke ({self._clean(error)})", silent=True
            ) from error

    @property
    def gone(self) -> MirrorGoneError | None:
        """Why nobody may ask any more; None: everybody may."""
        return self._gone

    def allow(self, parallel: int) -> None:
        """Say how many answers the server may be asked for at once."""
        self.parallel = parallel
        self._turns = threading.Semaphore(parallel)

    def count_answer(self) -> None:
        """Note that an answer of its was taken."""
        with self._lock:
            self.answers += 1

    def raise_if_gone(self) -> None:
        """See that somebody may still ask.

        Raises:
            MirrorGoneError: the server was found to be gone.
        """
        if self._gone is not None:
            raise self._gone

    def give_up(self, cause: str) -> MirrorGoneError:
        """Take the server for gone, for all who ask it; the error is the same for all."""
        with self._lock:
            if self._gone is None:
                self._gone = MirrorGoneError(
                    cause,
                    subject=self.url,
                    next_step="start it again, and run the same again: answers had so far are kept",
                )
            return self._gone

    def refused(self, reply: Reply, what: str) -> MirrorRefusedError:
        """The error for a status that no other try would change."""
        if reply.status in (401, 403):
            return MirrorRefusedError(
                f"the server refuses {'the' if self._key else 'to answer without a'} key: "
                f"{self._clean(reply.message)}",
                subject=self.url,
                next_step="name the environment variable that has the key in api_key_env",
            )
        return MirrorRefusedError(
            f"the server refuses {what}: {self._clean(reply.message)}",
            subject=self.url,
            next_step="correct what it names in the experiment's [mirror] or [evaluation]",
        )

    def pause(self, seconds: float) -> None:
        """Wait, unless somebody stops this first.

        Raises:
            MirrorError: somebody did.
        """
        if self._stopped.wait(seconds):
            raise MirrorError("stopped", subject=self.url)

    def stop(self) -> None:
        """End whatever is asked of it; may be called twice, and from another thread."""
        self._stopped.set()
        for one in list(self._sockets):
            # Closing alone would not wake a thread that reads.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connections."""
        self.stop()
        self._client.close()

    def _tried(self, once: Callable[[], _Value]) -> _Value:
        last = TryAgainError("it was not asked")
        for attempt in range(1, self.patience.tries + 1):
            self.raise_if_gone()
            self.pause(0.0)
            try:
                value = once()
            except TryAgainError as error:
                last = error
            else:
                self.failed_in_a_row = 0
                return value
            if attempt < self.patience.tries:
                self.pause(self.patience.pause(attempt, last.retry_after))
        if last.silent and not self._says_anything():
            raise self.give_up(f"the server is gone: {last}")
        self._count_failure(last)
        raise MirrorError(f"no answer after {self.patience.tries} tries: {last}", subject=self.url)

    def _reply_once(self, method: str, path: str, body: object) -> Reply:
        with self._turns if path.endswith(ANSWERS) else contextlib.nullcontext():
            if self._stopped.is_set():
                raise TryAgainError("stopped")
            reply = self.ask(method, path, body, seconds=self.patience.answer_seconds)
        if reply.status in TRY_AGAIN:
            raise TryAgainError(
                f"HTTP status {reply.status}: {self._clean(reply.message)}",
                retry_after=retry_after(reply.headers.get("retry-after"), time.time()),
            )
        return reply

    def _says_anything(self) -> bool:
        try:
            self.ask("GET", "/health", seconds=CONNECT_SECONDS)
        except TryAgainError:
            return False
        return True

    def _count_failure(self, last: TryAgainError) -> None:
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= max(FAILED_IN_A_ROW, 2 * self.parallel):
            raise self.give_up(
                f"{self.failed_in_a_row} answers in a row could not be had; the last: {last}"
            )

    def _clean(self, said: object) -> str:
        text = str(said)
        return text.replace(self._key, "***") if self._key else text

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the open sockets, to be able to wake whoever reads from one."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            with contextlib.suppress(KeyError, AttributeError), self._lock:
                opened = info["return_value"].get_extra_info("socket")
                self._sockets = {opened, *(one for one in self._sockets if one.fileno() >= 0)}


def _json_object(reply: Reply) -> dict[str, Any]:
    try:
        value = parse_json(reply.body)
    except ValueError as error:
        raise TryAgainError(f"its answer is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise TryAgainError("its answer is no JSON object")
    return value


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a server asks to wait: a number or a date, within reason.

    Args:
        value: the header.
        now: seconds since the epoch, for dates.
    """
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip()):
        seconds = float(value)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _bounded(response: httpx.Response, deadline: float) -> bytes:
    parts = []
    size = 0
    for part in _parts(response):
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise TryAgainError(f"its answer has more than {MAX_BODY_BYTES >> 20} MiB")
        if time.monotonic() > deadline:
            raise TryAgainError("its answer came so slowly that it was given up")
        parts.append(part)
    return b"".join(parts)


def _parts(response: httpx.Response) -> Iterator[bytes]:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TryAgainError("its answer is compressed, which it was not asked for")
    return response.iter_raw()


def _checked_url(url: str) -> Any:
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        port = parts.port
        if parts.scheme in ("http", "https") and parts.hostname and port != 0:
            return parts
    raise ExperimentError(
        f"{printable(url)!r} is no URL of a mirror", next_step="write it like http://host:8080"
    )
