"""A llama-server as a mirror: its process, its HTTP client and its interface put together.

In reference mode it has one slot and no prompt cache, because several slots or a cached prompt
can change greedy output. It listens on the loopback address alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edgequant.answers.mirrors.llama_server.api import UNREADABLE, LlamaServerApi, unreadable
from edgequant.answers.mirrors.llama_server.client import HttpClient
from edgequant.answers.mirrors.llama_server.process import ServerPolicy, ServerProcess
from edgequant.answers.mirrors.mirror import Completion
from edgequant.answers.mirrors.tokenizer import Tokenizer
from edgequant.answers.prompts import Message
from edgequant.models.formats.gguf import read_gguf

POLL_SECONDS = 0.02


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
        tokenizer: the model's own; without it the server is not asked for answers.

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
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.gguf = gguf
        self.policy = policy or ServerPolicy()
        self._process = ServerProcess(server_binary, gguf, policy=self.policy, port=port, log=log)
        self._client: HttpClient | None = None
        self._tokenizer = tokenizer
        self._api: LlamaServerApi | None = None
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
        read_gguf(self.gguf)
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
        properties = self._client.request("GET", "/props")
        try:
            self.context = int(properties["default_generation_settings"]["n_ctx"])
        except UNREADABLE as error:
            raise unreadable(self.gguf, error) from error
        if self._tokenizer is not None:
            self._api = LlamaServerApi(
                self._client.request,
                subject=self.gguf,
                context=self.context,
                tokenizer=self._tokenizer,
                prompt_cache=self.policy.prompt_cache,
            )

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
        return self._ready.apply_template(messages)

    def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.tokenize`."""
        return self._ready.tokenize(text, add_special=add_special)

    def complete(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        stop: Sequence[str] = (),
        messages: Sequence[Message] = (),
    ) -> Completion:
        """See :meth:`edgequant.answers.mirrors.mirror.Mirror.complete`; needs no messages."""
        return self._ready.complete(prompt, max_tokens, stop=stop)

    @property
    def _ready(self) -> LlamaServerApi:
        assert self._api is not None, "the mirror is not ready, or has no tokenizer"
        return self._api

    def _pause(self, on_wait: Callable[[], None] | None) -> None:
        self._process.check_alive(POLL_SECONDS)
        if on_wait is not None:
            on_wait()
