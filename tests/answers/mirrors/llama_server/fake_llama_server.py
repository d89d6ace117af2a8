"""Stands for llama-server: the same HTTP interface over a model that is plain arithmetic.

Its tokens are the UTF-8 bytes (ids 3 to 258) behind BOS (1); EOS is 2. The environment says how
it misbehaves: FAKE_MODE, and FAKE_REQUESTS, a file that each completion adds a line to: its limit
and its prompt's tokens. Asked for what goes into an open box it says 7; it never ends an answer to
what has "forever" in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

EOS = 2
MODE = os.environ.get("FAKE_MODE", "")
REQUESTS = os.environ.get("FAKE_REQUESTS")
served = 0


def answer(prompt: list[int]) -> list[int]:
    asked = bytes(t - 3 for t in prompt if t > 2).decode(errors="replace")
    if asked.endswith("\\boxed{"):
        return [byte + 3 for byte in b"7}"] + [EOS]
    if "forever" in asked:
        return [byte + 3 for byte in b"and so on, " * 100]
    digest = hashlib.sha256(repr(prompt).encode()).hexdigest()
    text = f"é{digest[: 4 + int(digest[0], 16)]} \\boxed{{{int(digest[:2], 16)}}}"
    return [byte + 3 for byte in text.encode()] + [EOS]


def complete(body: dict[str, Any]) -> dict[str, Any]:
    tokens = answer(body["prompt"])
    if MODE == "drift" and "--cache-prompt" in rest and len(tokens) % 2:
        tokens = [*tokens[:3], 3 + ord("?"), *tokens[4:]]
    cut = tokens[: body["n_predict"]]
    stop_type = "eos" if cut[-1] == EOS else "limit"
    content = bytes(t - 3 for t in cut if t > 2).decode(errors="ignore")
    for stop in body["stop"]:
        if stop in content:
            content, stop_type = content.split(stop)[0], "word"
    return {
        "content": content,
        "tokens": cut,
        "stop_type": stop_type,
        "tokens_evaluated": len(body["prompt"]),
        "truncated": False,
        "timings": {"prompt_ms": 2.0, "predicted_ms": 1.5 * len(cut)},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        if self.path == "/health":
            self.reply({"status": "ok"})
        else:
            self.reply({"default_generation_settings": {"n_ctx": options.ctx_size}})

    def do_POST(self) -> None:
        global served
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        served += 1
        if MODE.startswith("die-after-") and served > int(MODE.rpartition("-")[2]):
            print("fake: out of memory", flush=True)
            os._exit(3)
        if MODE == "slow":
            time.sleep(60)
        if MODE == "refuse":
            self.reply({"error": {"message": "no such thing"}}, 400)
            return
        if MODE == "nonsense":
            self.reply({"content": 1})
            return
        if REQUESTS:
            with Path(REQUESTS).open("a") as stream:
                stream.write(json.dumps([body["n_predict"], body["prompt"]]) + "\n")
        self.reply(complete(body))


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--ctx-size", type=int)
options, rest = parser.parse_known_args()
print("arguments", json.dumps(rest), "leaked", "LLAMA_API_KEY" in os.environ, flush=True)
if MODE == "die-at-start":
    print("fake: error loading model", flush=True)
    sys.exit(1)
if MODE == "port-race":
    print(f"couldn't bind HTTP server socket, hostname: 127.0.0.1, port: {options.port}")
    sys.exit(1)
if MODE == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
