"""A GGUF's tokenizer and template in process, against llama.cpp's own programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgequant.answers.mirrors.llama_server.server import LlamaServer
from edgequant.answers.prompts import Message, load_prompt, render
from edgequant.core.errors import ConversionError, GgufError, ToolMissingError
from edgequant.models.tokenizer_check import check_texts
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary
from tests.answers.mirrors.llama_server.tiny_llama import write_tiny_llama
from tests.models.gguf_writer import gguf

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def vocabulary(model: Path, host_build: Any) -> Iterator[Vocabulary]:
    with Vocabulary(model, host_build.binary(LIBRARY_NAME)) as opened:
        yield opened


@pytest.mark.parametrize("special", [True, False])
def test_ids_are_those_of_llama_tokenize(
    vocabulary: Vocabulary, model: Path, host_build: Any, special: bool
) -> None:
    for text in check_texts()[::6]:
        command = [str(host_build.binary("llama-tokenize")), "-m", str(model), "--stdin", "--ids"]
        command += ["--no-escape", "--log-disable", *([] if special else ["--no-bos"])]
        printed = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
        assert list(vocabulary.tokenize(text, add_special=special)) == json.loads(printed.stdout)


def rendered(url: str, messages: Sequence[Message]) -> str:
    """What a running llama-server makes of some turns."""
    answer = httpx.post(f"{url}/apply-template", json={"messages": messages}, trust_env=False)
    return str(answer.json()["prompt"])


def test_the_template_gives_what_llama_server_gives(
    vocabulary: Vocabulary, model: Path, host_build: Any, tmp_path: Path
) -> None:
    turns = [
        render(load_prompt(name), question, budget)
        for name in ("cot", "aav")
        for question, budget in (("How many eggs?", None), ("  <b> {{ 1 }} é\n", 64))
    ]
    with LlamaServer(host_build.binary("llama-server"), model, log=tmp_path / "log") as mirror:
        theirs = [rendered(mirror.url, messages) for messages in turns]
    assert [vocabulary.apply_template(messages) for messages in turns] == theirs


def test_a_model_without_a_template(tmp_path: Path, host_build: Any) -> None:
    path = write_tiny_llama(tmp_path / "bare.gguf", template=False)
    with (
        Vocabulary(path, host_build.binary(LIBRARY_NAME)) as opened,
        pytest.raises(ConversionError, match="no chat template"),
    ):
        opened.apply_template([{"role": "user", "content": "x"}])


def test_llama_cpps_own_reason_is_told(tmp_path: Path, host_build: Any) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(gguf({"general.architecture": "llama", "tokenizer.ggml.model": "odd"}))
    with pytest.raises(ConversionError, match=r"cannot use this file's tokenizer \(.*llama"):
        Vocabulary(path, host_build.binary(LIBRARY_NAME))


def test_what_is_not_there_is_named(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ToolMissingError, match=r"no libllama\.so"):
        Vocabulary(model, tmp_path / LIBRARY_NAME)
    with pytest.raises(GgufError, match="no such file"):
        Vocabulary(tmp_path / "none.gguf", tmp_path / LIBRARY_NAME)
