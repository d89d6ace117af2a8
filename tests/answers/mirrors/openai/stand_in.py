"""A server that speaks OpenAI's protocol, and does whatever wrong a test tells it to.

It answers a prompt with the words ``w0 w1 ...``, as many as the prompt's length says, and counts
what it was asked. A fault is taken from the front of ``faults`` for each completion.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edgequant.answers.prompts import Message

STALL_SECONDS = 30.0
END = 0
"""The id of the token that ends an answer; those of the words come behind it."""


def words(prompt: str) -> list[str]:
    return [f"w{n} " for n in range(3 + len(prompt) % 5)]


class Words:
    """A tokenizer of words ``w0`` to ``w98``, and of any other byte."""

    size = 99 + 256 + 1
    end_token = END

    def is_end(self, token: int) -> bool:
        return token == END

    def piece(self, token: int) -> bytes:
        return f"w{token - 1} ".encode() if token < 100 else bytes([token - 100])

    def tokenize(self, text: str, *, add_special: bool) -> tuple[int, ...]:
        ids: list[int] = []
        for word in text.split(" ")[:-1]:
            if word.startswith("w") and word[1:].isdigit():
                ids.append(int(word[1:]) + 1)
            else:
                ids += [100 + byte for byte in f"{word} ".encode()]
        return (*ids, *(100 + byte for byte in text.rpartition(" ")[2].encode()))

    def apply_template(self, messages: Sequence[Message]) -> str:
        return "".join(f"[{m['role']}]{m['content']}" for m in messages) + "[assistant]"


class StandIn:
    """One such server.

    Attributes:
        faults: names of what goes wrong with the next completions; ``""``: nothing.
        always: what goes wrong with each.
        forms: paths that it knows.
        ids: how it gives token ids: ``token_ids``, ``logprobs`` or not at all.
        strict: unknown parameters are refused, as OpenAI itself does.
        models: names of its models.
        key: the one it wants.
        asked: the bodies of all completions that were answered as they should be.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.always = ""
        self.forms = {"/v1/completions", "/v1/chat/completions"}
        self.ids = "token_ids"
        self.strict = False
        self.models = ["m"]
        self.key: str | None = None
        self.asked: list[dict[str, Any]] = []
        self.tried = 0
        self.dead = False
        self.props: Callable[[], tuple[int, object]] = lambda: (404, {"detail": "Not Found"})
        self.released = threading.Event()
        self.url = ""
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None

    @property
    def prompts(self) -> list[Any]:
        """What was asked, without the probing at the start."""
        return [
            body.get("prompt", body.get("messages"))
            for body in self.asked
            if body["max_tokens"] > 1
        ]

    def start(self) -> None:
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                if self.path == "/props":
                    self.reply(*reversed(stand_in.props()))
                elif self.path == "/v1/models":
                    self.reply({"data": [{"id": name} for name in stand_in.models]})
                else:
                    self.reply({"status": "ok"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                authorization = self.headers.get("Authorization")
                stand_in.answer(self, self.path, body, authorization)

            def reply(
                self, value: object, status: int = 200, headers: dict[str, str] | None = None
            ) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in (headers or {}).items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def reset(self) -> None:
                # With this option closing sends a reset.
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.connection.close()
                self.close_connection = True

            def finish(self) -> None:
                with suppress(OSError, ValueError):
                    super().finish()

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self.released.set()
        if self._server is not None:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()

    def answer(
        self, handler: Any, path: str, body: dict[str, Any], authorization: str | None
    ) -> None:
        probing = body["max_tokens"] == 1
        with self._lock:
            self.tried += not probing
            fault = self.faults.pop(0) if self.faults and not probing else self.always
        if self.dead:
            handler.reset()
        elif self.key is not None and authorization != f"Bearer {self.key}":
            said = f"Incorrect API key provided: {authorization}"
            handler.reply({"error": {"message": said}}, 401)
        elif path not in self.forms:
            handler.reply({"detail": "Not Found"}, 404)
        elif body["model"] not in self.models:
            said = f"The model `{body['model']}` does not exist."
            handler.reply({"error": {"message": said, "code": "model_not_found"}}, 404)
        elif self.strict and set(body) - {
            *("model", "prompt", "messages", "max_tokens", "temperature", "seed", "stop")
        }:
            handler.reply({"error": {"message": "Unrecognized request argument"}}, 400)
        elif fault and not probing:
            self.misbehave(handler, fault, body)
        else:
            with self._lock:
                self.asked.append(body)
            handler.reply(self.completion(body))

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        prompt = body.get("prompt", json.dumps(body.get("messages")))
        said = words(prompt if isinstance(prompt, str) else str(prompt))
        kept = said[: body["max_tokens"]]
        ended = len(kept) < body["max_tokens"]
        ids = [int(word[1:]) + 1 for word in kept] + [END] * ended
        text = "".join(kept)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if ended else "length"}
        choice |= {"text": text} if "prompt" in body else {"message": {"content": text}}
        if self.ids == "token_ids" and body.get("return_token_ids"):
            choice["token_ids"] = ids
        if self.ids == "logprobs" and body.get("return_tokens_as_token_ids"):
            choice["logprobs"] = {"tokens": [f"token_id:{i}" for i in ids]}
        return {"choices": [choice], "usage": {"completion_tokens": len(ids)}}

    def misbehave(self, handler: Any, fault: str, body: dict[str, Any]) -> None:
        whole = json.dumps(self.completion(body)).encode()
        if fault.isdigit():
            handler.reply({"error": {"message": f"status {fault}"}}, int(fault))
        elif fault == "wait":
            handler.reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"})
        elif fault == "too-long":
            said = "This model's maximum context length is 10 tokens"
            handler.reply({"error": {"message": said}}, 400)
        elif fault == "cut-json":
            handler.reply(whole[: len(whole) // 2])
        elif fault == "cut-body":
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(whole)))
            handler.end_headers()
            handler.wfile.write(whole[: len(whole) // 2])
            handler.close_connection = True
        elif fault == "reset":
            handler.reset()
        elif fault in ("stall", "stall-in-body"):
            if fault == "stall-in-body":
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(whole)))
                handler.end_headers()
                handler.wfile.write(whole[:5])
                handler.wfile.flush()
            self.released.wait(STALL_SECONDS)
            handler.close_connection = True
        elif fault == "trickle":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            with_end = time.monotonic() + STALL_SECONDS
            while time.monotonic() < with_end and not self.released.is_set():
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.02)
        elif fault == "huge":
            handler.send_response(200)
            handler.end_headers()
            for _ in range(200):
                handler.wfile.write(b" " * (1 << 20))
            handler.close_connection = True
        elif fault == "gzip":
            handler.reply(b"\x1f\x8b\x08", 200, {"Content-Encoding": "gzip"})
        elif fault == "not-utf-8":
            handler.reply(b'{"choices": [{"text": "\xff\xfe", "finish_reason": "stop"}]}')
        elif fault == "die":
            self.dead = True
            threading.Thread(target=self.stop).start()
            handler.reset()
        else:
            handler.reply(fault.encode())


@contextmanager
def stand_in(**settings: Any) -> Iterator[StandIn]:
    server = StandIn()
    for name, value in settings.items():
        assert hasattr(server, name)
        setattr(server, name, value)
    server.start()
    try:
        yield server
    finally:
        server.stop()
