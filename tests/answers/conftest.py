"""A stand-in for llama-server, and a model file that it does not look at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgequant.answers.questions import Question
from tests.models.gguf_writer import gguf

FAKE = Path(__file__).parent / "mirrors" / "llama_server" / "fake_llama_server.py"


@pytest.fixture
def fake_server(tmp_path: Path) -> Path:
    """An executable that speaks llama-server's HTTP interface."""
    binary = tmp_path / "bin" / "llama-server"
    binary.parent.mkdir()
    binary.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    binary.chmod(0o755)
    return binary


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A GGUF with a chat template and no weights."""
    return write_model(tmp_path / "Q8_0.gguf")


@pytest.fixture
def questions() -> list[Question]:
    return [
        Question(f"{n:04d}-aaaaaaaa", f"What is {n} + {n}?", str(2 * n), "") for n in range(1, 6)
    ]


def write_model(path: Path, *, template: bool = True, name: str = "tiny") -> Path:
    metadata: dict[str, object] = {"general.architecture": "llama", "general.name": name}
    if template:
        metadata["tokenizer.chat_template"] = "{{ messages }}"
    path.write_bytes(gguf(metadata))
    return path
