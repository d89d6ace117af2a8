"""A hub on loopback with one small model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgequant.core.artefact import Store
from edgequant.models.pull.hub import Hub
from tests.models.hf_folder import safetensors
from tests.models.pull.hub_server import Server, serve

WEIGHTS = safetensors({"a": ("BF16", (512, 512), bytes(range(256)) * 2048)})
MODEL = {
    ".gitattributes": b"*.safetensors filter=lfs",
    "README.md": b"# Tiny",
    "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
    "tokenizer.json": b"{}",
    "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"pickle",
    "modeling_tiny.py": b"raise SystemExit('run')",
    "consolidated.safetensors": WEIGHTS,
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "additional_chat_templates/tools.jinja": b"{{ tools }}",
}
NEEDED = {
    "README.md",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "additional_chat_templates/tools.jinja",
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        running.add_model("acme/tiny", MODEL)
        yield running


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "edgequant"))
    # Neither the token nor the proxies of whoever runs the tests.
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    return Hub(server.url, tmp_path / "hub", timeout_seconds=2.0, pause_seconds=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
