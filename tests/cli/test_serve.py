"""``edgequant serve``: it says where it listens, and Ctrl-C ends it for good."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.models.gguf_writer import gguf

FAKE = Path(__file__).parents[1] / "answers" / "mirrors" / "llama_server" / "fake_llama_server.py"

# The command as it is, but for the build: a stand-in serves.
MAIN = """
import sys
from pathlib import Path
from types import SimpleNamespace
import edgequant.build.build as toolchain
server = Path(sys.argv.pop(1))
toolchain.build = lambda target: SimpleNamespace(
    binary=lambda name: server, llama_cpp_commit="0c1e57098"
)
from edgequant.cli.app import main
main()
"""


@pytest.fixture
def server(tmp_path: Path) -> Path:
    binary = tmp_path / "llama-server"
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    binary.chmod(0o755)
    return binary


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "Q8_0.gguf"
    path.write_bytes(gguf({"general.architecture": "llama"}))
    return path


@contextmanager
def serve(server: Path, tmp_path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, str(server), "serve", *arguments],
        env={**os.environ, "EDGEQUANT_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_json(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


def listens(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_interrupted(
    server: Path, model: Path, tmp_path: Path, end: signal.Signals
) -> None:
    with serve(server, tmp_path, str(model), "--threads", "1", "--json") as process:
        said = read_json(process)
        url = str(said["url"])
        assert listens(url)
        assert said["reference_mode"] is True
        assert said["slots"] == 1
        process.send_signal(end)
        _, progress = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Stopped." in progress
    assert not listens(url)


def test_it_dies_with_a_killed_command(server: Path, model: Path, tmp_path: Path) -> None:
    with serve(server, tmp_path, str(model), "--json") as process:
        url = str(read_json(process)["url"])
        assert listens(url)
        process.kill()
        process.communicate(timeout=20)
    deadline = time.monotonic() + 10
    while listens(url) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not listens(url)


def test_a_port_in_use_and_a_missing_model(server: Path, model: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with serve(server, tmp_path, str(model), "--port", port) as process:
            _, progress = process.communicate(timeout=20)
    assert process.returncode == 51
    assert f"error: 127.0.0.1:{port}: this port is taken" in progress
    with serve(server, tmp_path, str(tmp_path / "absent.gguf")) as process:
        _, progress = process.communicate(timeout=20)
    assert process.returncode == 11
    assert "absent.gguf: no such file" in progress
