"""A llama-server as a mirror: its process, its HTTP client and its token decoder put together.

In reference mode it has one slot and no prompt cache, because several slots or a cached prompt
can change greedy output. It listens on the loopback address alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgequant.answers.mirrors.llama_server.client import HttpClient
from edgequant.answers.mirrors.llama_server.decoder import TokenDecoder
from edgequant.answers.mirrors.llama_server.process import ServerPolicy, ServerProcess
from edgequant.answers.mirrors.mirror import SAMPLING, Completion
from edgequant.answers.prompts import Message
from edgequant.core.errors import MirrorRefusedError
from edgequant.models.formats.gguf import read_gguf

POLL_SECONDS = 0.02
RESPONSE_FIELDS = ("content", "tokens", "stop_type", "tokens_evaluated", "truncated", "timings")


class LlamaServer:
    """A running llama-server, stopped at the end of the ``with`` block.

    It is stopped on any way out of the block, and killed by the kernel when this process dies
    without getting there.

    Args:
        server_binary: a llama-server.
        gguf: the model to serve.
        policy: what can change an answer.
        port: a port that must be free, by default one that the system chooses.
        log: file that the server's output is appended to.

    Raises:
        ToolMissingError: there is no such server.
        GgufError: there is no such file, or it is no whole GGUF.
        PortInUseError: the port asked for is taken.
        MirrorError: the server did not start; the message has its last lines.
    """

    gives_token_ids = True

    def __init__(
        self,
        server_binary: Path,
        gguf: Path,
        *,
        log: Path,
        policy: ServerPolicy | None = None,
        port: int | None = None,
    ) -> None:
        self.gguf = gguf
        self.policy = policy or ServerPolicy()
        self._process = ServerProcess(server_binary, gguf, policy=self.policy, port=port, log=log)
        self._client: HttpClient | None = None
        self._decoder = TokenDecoder(self._request)
        self.has_template = False
        """Whether the model brings a chat template; known once the server is started."""
        self.context = 0
        """Tokens that a slot really holds; known once the server is ready."""

    def __enter__(self) -> Self:
        try:
            self.start()
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process id."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it listens; "" before it does."""
        return "" if self._client is None else self._client.url

    def start(self) -> None:
        """Start the server without waiting for it; what it may raise is in the class's text."""
        self._process.check_binary()
        self.has_template = "tokenizer.chat_template" in read_gguf(self.gguf).metadata
        self._process.start()

    def wait_until_ready(self, on_wait: Callable[[], None] | None = None) -> None:
        """Block until the model is loaded.

        Args:
            on_wait: called many times a second while it is not.

        Raises:
            PortInUseError, MirrorError: as in the class's text.
        """
        while not (address := self._process.address()):
            self._pause(on_wait)
        self._client = HttpClient(
            address,
            subject=self.gguf,
            log=self._process.log,
            check_server=lambda: self._process.check_alive(POLL_SECONDS),
        )
        while not self._client.is_healthy():
            self._pause(on_wait)
        properties = self._request("GET", "/props")
        try:
            self.context = int(properties["default_generation_settings"]["n_ctx"])
        except (KeyError, TypeError) as error:
            raise self._client.unreadable(error) from error

    def wait(self) -> None:
        """Block until the server ends by itself.

        Raises:
            MirrorError: it did.
        """
        self._process.wait()

    def stop(self) -> None:
        """End the server; may be called twice, and while another thread waits for an answer."""
        self._process.stop()
        if self._client is not None:
            self._client.close()

    def apply_template(self, messages: Sequence[Message]) -> str:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.apply_template`."""
        if not self.has_template:
            # The server would quietly take ChatML instead.
            raise MirrorRefusedError(
                "this GGUF has no chat template",
                subject=self.gguf,
                next_step='set wrapper = "chatml", or convert the model again from a folder whose '
                "tokenizer_config.json has a chat_template",
            )
        return str(self._request("POST", "/apply-template", {"messages": list(messages)})["prompt"])

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """Token ids of a prompt, special tokens in it read as such.

        Args:
            text: a rendered prompt.
            add_special: put what the model wants before a prompt (BOS), unless the text already
                begins with it: it is never there twice.
        """
        ids = self._tokenize(text, add_special)
        if add_special and len(ids) > 1 and ids[0] == ids[1]:
            plain = self._tokenize(text, False)
            if plain == ids[1:]:
                return plain
        return ids

    def complete(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        stop: Sequence[str] = (),
        messages: Sequence[Message] = (),
    ) -> Completion:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.complete`; needs no messages."""
        ids = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        if len(ids) + max_tokens + 1 > self.context:
            raise MirrorRefusedError(
                f"a prompt of {len(ids)} tokens and an answer of up to {max_tokens} do not fit "
                f"into the context of {self.context} tokens",
                subject=self.gguf,
                next_step="lower max_tokens, or raise the context if the model was trained for it",
            )
        body = {
            **SAMPLING,
            "prompt": ids,
            "n_predict": max_tokens,
            "stop": list(stop),
            "cache_prompt": self.policy.prompt_cache,
            "return_tokens": True,
            "response_fields": list(RESPONSE_FIELDS),
        }
        answer = self._request("POST", "/completion", body)
        try:
            return self._completion(answer, len(ids))
        except (KeyError, TypeError, ValueError) as error:
            assert self._client is not None
            raise self._client.unreadable(error) from error

    def _completion(self, answer: Mapping[str, Any], prompt_tokens: int) -> Completion:
        ids = [int(i) for i in answer["tokens"]]
        if int(answer["tokens_evaluated"]) != prompt_tokens or answer["truncated"]:
            raise ValueError("the prompt or the answer was cut")
        stop_type = answer["stop_type"]
        if stop_type not in ("eos", "limit", "word") or not ids:
            raise ValueError(f"stopped by {stop_type!r} after {len(ids)} tokens")
        timings, text = answer["timings"], str(answer["content"])
        return Completion(
            token_ids=ids,
            pieces=self._decoder.pieces(
                ids, text=text, ended=stop_type == "eos", cut=stop_type == "word"
            ),
            text=text,
            stop_reason="limit" if stop_type == "limit" else "eos",
            prompt_tokens=prompt_tokens,
            prompt_seconds=float(timings["prompt_ms"]) / 1e3,
            decode_seconds=float(timings["predicted_ms"]) / 1e3,
        )

    def _tokenize(self, text: str, add_special: bool) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return [int(i) for i in self._request("POST", "/tokenize", body)["tokens"]]

    def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        assert self._client is not None, "the mirror is not ready"
        return self._client.request(method, path, body)

    def _pause(self, on_wait: Callable[[], None] | None) -> None:
        self._process.check_alive(POLL_SECONDS)
        if on_wait is not None:
            on_wait()
