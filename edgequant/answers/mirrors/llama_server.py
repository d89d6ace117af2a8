"""The mirror: a llama-server of ours that answers from the very GGUF that the board runs.

In reference mode it has one slot and no prompt cache, because several slots or a cached prompt
can change greedy output. It listens on the loopback address alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from edgequant.answers.prompts import Message
from edgequant.core.errors import MirrorError, PortInUseError, ToolMissingError
from edgequant.core.json_file import parse_json
from edgequant.core.process import TAIL_LINES, dying_with_us
from edgequant.models.formats.gguf import read_gguf

HOST = "127.0.0.1"
POLL_SECONDS = 0.02
REQUEST_SECONDS = 3600.0
"""How long one answer may take: a large model on a slow host needs many minutes."""
ATTEMPTS = 3
SEED = 0

StopReason = Literal["eos", "limit"]

# Greedy and nothing else: "temperature" at 0 keeps the first of the largest logits.
SAMPLING: dict[str, object] = {"temperature": 0.0, "samplers": ["temperature"], "seed": SEED}


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """What of a server's set-up can change an answer."""

    slots: int = 1
    prompt_cache: bool = False
    threads: int = 1
    """Attention over 512 and more tokens is summed up in as many parts as there are threads."""
    context: int = 4096
    """Tokens that a slot holds, prompt and answer; at most what the model was trained with."""
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"

    @property
    def is_reference(self) -> bool:
        """Whether answers are those of plain greedy decoding."""
        return self.slots == 1 and not self.prompt_cache

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, as the server gave it."""

    token_ids: list[int]
    """All generated tokens, with the one that ended the answer."""
    pieces: list[bytes]
    """The bytes that each token adds to the text; none for a token that ended the answer."""
    text: str
    stop_reason: StopReason
    prompt_tokens: int
    prompt_seconds: float
    decode_seconds: float


class Mirror:
    """A running llama-server, stopped at the end of the ``with`` block.

    It is stopped on any way out of the block, and killed by the kernel when this process (more
    exactly: the thread that started it) dies without getting there.

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
        self.log = log
        self.policy = policy or ServerPolicy()
        self._binary = server_binary
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._client: httpx.Client | None = None
        self._pieces: dict[int, bytes] = {}
        self._control: dict[int, bool] = {}
        self.url = ""
        """Known once the server listens."""
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
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server without waiting for it; what it may raise is in the class's text."""
        if not self._binary.is_file():
            raise ToolMissingError(
                "no llama-server here",
                subject=self._binary,
                next_step="run edgequant build --target host",
            )
        self.has_template = "tokenizer.chat_template" in read_gguf(self.gguf).metadata
        if self._port is not None:
            check_port(self._port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        argv = server_arguments(self._binary, self.gguf, self.policy, self._port or 0)
        with self.log.open("ab") as stream:
            stream.write(("$ " + " ".join(argv) + "\n").encode(errors="replace"))
            stream.flush()
            self._log_start = stream.tell()
            self._process = subprocess.Popen(
                dying_with_us(argv),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=server_environment(os.environ),
                start_new_session=True,
            )

    def wait_until_ready(self, on_wait: Callable[[], None] | None = None) -> None:
        """Block until the model is loaded.

        Args:
            on_wait: called many times a second while it is not.

        Raises:
            PortInUseError, MirrorError: as in the class's text.
        """
        while not (address := listening_address(self._output())):
            self._pause(on_wait)
        self.url = address
        self._client = httpx.Client(
            base_url=address,
            # A proxy from the environment must never stand between us and the loopback.
            trust_env=False,
            timeout=httpx.Timeout(REQUEST_SECONDS, connect=10.0),
        )
        while True:
            with contextlib.suppress(httpx.TransportError):
                if self._client.get("/health", timeout=10.0).status_code == httpx.codes.OK:
                    break
            self._pause(on_wait)
        properties = self._request("GET", "/props")
        try:
            self.context = int(properties["default_generation_settings"]["n_ctx"])
        except (KeyError, TypeError) as error:
            raise self._unreadable(error) from error

    def wait(self) -> None:
        """Block until the server ends by itself.

        Raises:
            MirrorError: it did.
        """
        assert self._process is not None
        self._process.wait()
        raise self._died()

    def stop(self) -> None:
        """End the server; may be called twice, and while another thread waits for an answer."""
        if self._process is not None and self._process.poll() is None:
            # It has nothing to save, and asked politely in the middle of an answer it waits for
            # that answer's reader for ever.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._client is not None:
            self._client.close()

    def apply_template(self, messages: Sequence[Message]) -> str:
        """The text that the model's own chat template makes of some turns, the answer's one open.

        Raises:
            MirrorError: the model has no template, or the server refuses the turns.
        """
        if not self.has_template:
            # The server would quietly take ChatML instead.
            raise MirrorError(
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
        self, prompt: str | Sequence[int], max_tokens: int, *, stop: Sequence[str] = ()
    ) -> Completion:
        """Greedy continuation of a prompt.

        Args:
            prompt: rendered text, or token ids.
            max_tokens: stop after so many.
            stop: texts that end the answer like an end-of-turn token does.

        Raises:
            MirrorError: prompt and answer together may not fit into the context, or the server
                died or answered something else.
        """
        ids = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
        if len(ids) + max_tokens + 1 > self.context:
            raise MirrorError(
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
            "response_fields": [
                "content",
                "tokens",
                "stop_type",
                "tokens_evaluated",
                "truncated",
                "timings",
            ],
        }
        answer = self._request("POST", "/completion", body)
        try:
            return self._completion(answer, len(ids))
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreadable(error) from error

    def _completion(self, answer: Mapping[str, Any], prompt_tokens: int) -> Completion:
        ids = [int(i) for i in answer["tokens"]]
        if int(answer["tokens_evaluated"]) != prompt_tokens or answer["truncated"]:
            raise ValueError("the prompt or the answer was cut")
        stop_type = answer["stop_type"]
        if stop_type not in ("eos", "limit", "word") or not ids:
            raise ValueError(f"stopped by {stop_type!r} after {len(ids)} tokens")
        timings = answer["timings"]
        content = str(answer["content"])
        pieces = self._token_pieces(ids)
        if stop_type == "eos":
            pieces[-1] = b""
        if stop_type != "word" and b"".join(pieces).decode(errors="replace") != content:
            # The server leaves the model's control tokens out of the text.
            pieces = [
                b"" if piece and self._is_control(token) else piece
                for token, piece in zip(ids, pieces, strict=True)
            ]
        return Completion(
            token_ids=ids,
            pieces=pieces,
            text=content,
            stop_reason="limit" if stop_type == "limit" else "eos",
            prompt_tokens=prompt_tokens,
            prompt_seconds=float(timings["prompt_ms"]) / 1e3,
            decode_seconds=float(timings["predicted_ms"]) / 1e3,
        )

    def _token_pieces(self, ids: Sequence[int]) -> list[bytes]:
        unknown = [i for i in dict.fromkeys(ids) if i not in self._pieces]
        if unknown:
            answer = self._request("POST", "/tokenize", {"content": unknown, "with_pieces": True})
            for token in answer["tokens"]:
                piece = token["piece"]
                # Bytes that are no whole character come as a list of numbers.
                self._pieces[token["id"]] = (
                    piece.encode() if isinstance(piece, str) else bytes(piece)
                )
        return [self._pieces[i] for i in ids]

    def _is_control(self, token: int) -> bool:
        """Whether a token's text means that token only where special tokens are looked for."""
        if token not in self._control:
            text = self._pieces[token].decode(errors="replace")
            found = [
                self._request("POST", "/tokenize", {"content": text, "parse_special": special})
                for special in (True, False)
            ]
            self._control[token] = [f["tokens"] == [token] for f in found] == [True, False]
        return self._control[token]

    def _tokenize(self, text: str, add_special: bool) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": True}
        return [int(i) for i in self._request("POST", "/tokenize", body)["tokens"]]

    def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One request; sent again where the server closed the idle connection under us."""
        assert self._client is not None, "the mirror is not ready"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                response = self._client.request(method, path, json=body)
                break
            except httpx.TimeoutException as error:
                raise MirrorError(
                    f"llama-server has not answered for {REQUEST_SECONDS:.0f} s",
                    subject=self.gguf,
                    next_step=f"read its log: {self.log}",
                ) from error
            except (httpx.TransportError, RuntimeError) as error:
                # RuntimeError: another thread has stopped this mirror and closed the client.
                self._check_alive(POLL_SECONDS)
                if attempt == ATTEMPTS or isinstance(error, RuntimeError):
                    raise MirrorError(
                        f"the connection to llama-server broke: {error}",
                        subject=self.url,
                        next_step=f"read its log: {self.log}",
                    ) from error
        if response.status_code != httpx.codes.OK:
            raise MirrorError(
                f"llama-server refused {path}: {_refusal(response)}",
                subject=self.gguf,
                next_step=f"read its log: {self.log}",
            )
        try:
            value = parse_json(response.content)
        except ValueError as error:
            raise self._unreadable(error) from error
        if not isinstance(value, dict):
            raise MirrorError(f"llama-server's answer to {path} is no object", subject=self.gguf)
        return value

    def _unreadable(self, error: Exception) -> MirrorError:
        return MirrorError(
            f"llama-server's answer cannot be read ({type(error).__name__}: {error})",
            subject=self.gguf,
            next_step="build the host tools from the pinned llama.cpp",
        )

    def _pause(self, on_wait: Callable[[], None] | None) -> None:
        self._check_alive(POLL_SECONDS)
        if on_wait is not None:
            on_wait()

    def _check_alive(self, seconds: float) -> None:
        """Give the server some time to die, and raise if it has."""
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise self._died()

    def _died(self) -> MirrorError | PortInUseError:
        output = self._output()
        if self._port is not None and "couldn't bind HTTP server socket" in output:
            return _port_in_use(self._port)
        assert self._process is not None
        status = self._process.returncode
        how = f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
        lines = output.splitlines()[-TAIL_LINES:]
        return MirrorError(
            f"llama-server ended with {how}; its last lines:\n  " + "\n  ".join(lines),
            subject=self.gguf,
            next_step=f"read the whole log: {self.log}",
        )

    def _output(self) -> str:
        with self.log.open("rb") as stream:
            stream.seek(self._log_start)
            return stream.read().decode(errors="replace")


def server_arguments(binary: Path, gguf: Path, policy: ServerPolicy, port: int) -> list[str]:
    """The command line of a server; port 0 lets the system choose one."""
    return [
        str(binary),
        *("--model", str(gguf)),
        *("--host", HOST),
        *("--port", str(port)),
        *("--parallel", str(policy.slots)),
        *("--ctx-size", str(policy.context * policy.slots)),
        *("--threads", str(policy.threads)),
        *("--threads-batch", str(policy.threads)),
        *("--cache-type-k", policy.cache_type_k),
        *("--cache-type-v", policy.cache_type_v),
        "--cache-prompt" if policy.prompt_cache else "--no-cache-prompt",
        # No prompts kept in RAM, no snapshots of the context, no sliding of a full context.
        *("--cache-ram", "0"),
        *("--ctx-checkpoints", "0"),
        "--no-context-shift",
        "--no-kv-unified",
        # The context asked for is the context used, whatever memory there is.
        *("--fit", "off"),
        "--no-webui",
        "--no-slots",
        "--offline",
        *("--log-colors", "off"),
    ]


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables that llama-server takes options from."""
    return {k: v for k, v in environment.items() if not k.startswith(("LLAMA_", "AIP_"))}


def listening_address(output: str) -> str | None:
    """The address that a server says it listens on, in its log so far."""
    found = re.search(r"listening on (http://[0-9.]+:\d+)\s", output)
    return found.group(1) if found else None


def check_port(port: int) -> None:
    """See before the start that a loopback port can be had.

    Raises:
        PortInUseError: it cannot.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server does, so that a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _port_in_use(port) from error


def _port_in_use(port: int) -> PortInUseError:
    return PortInUseError(
        "this port is taken by another program, or not ours to take",
        subject=f"{HOST}:{port}",
        next_step="stop that program, name another port, or leave --port out",
    )


def _refusal(response: httpx.Response) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(parse_json(response.content)["error"]["message"])
    return f"HTTP status {response.status_code}"
