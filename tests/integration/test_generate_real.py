"""Generation with the real llama-server, killed without warning and taken up again."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import pytest

from edgequant.answers.generate import generate
from edgequant.answers.mirrors.llama_server.pool import LlamaServers
from edgequant.answers.prompts import load_prompt
from edgequant.answers.questions import Question
from edgequant.answers.strategies.early_stop import CLOSING, EarlyStop
from edgequant.answers.strategies.loop_stop import LoopStop
from edgequant.answers.strategies.stated import Stated
from edgequant.answers.strategies.truncate import Truncate
from edgequant.answers.table import Answers
from edgequant.core.artefact import Store
from edgequant.core.tables import records
from edgequant.models.model_file import ModelFile
from edgequant.models.vocabulary import LIBRARY_NAME, Vocabulary
from tests.answers.mirrors.llama_server.tiny_llama import write_tiny_llama


class Tools(Protocol):
    """What these tests need of a build."""

    def binary(self, name: str) -> Path: ...


pytestmark = pytest.mark.integration

COUNT = 60
SCRIPT = """
import sys
from pathlib import Path
from tests.integration.test_generate_real import ask
ask(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def servers(program: Path, workers: int) -> LlamaServers:
    """Of a build whose library lies beside its server."""

    def open_tokenizer(model: ModelFile) -> Vocabulary:
        return Vocabulary(model.path, program.parent / LIBRARY_NAME)

    return LlamaServers(program, "0c1e57098", open_tokenizer, workers=workers)


def ask(folder: Path, server: Path) -> Answers:
    """All answers of a small experiment, kept below a folder."""
    questions = [Question(f"{n:04d}-aaaaaaaa", f"{n} + {n}?", str(2 * n), "") for n in range(COUNT)]
    return generate(
        [ModelFile.of_path("F32", folder / "tiny.gguf")],
        mirrors=servers(server, workers=2),
        prompts=[load_prompt("cot")],
        strategies=[Truncate(), Stated(budgets=(12,))],
        questions=questions,
        max_tokens=100,
        store=Store(folder / "store"),
    )


def servers_of(folder: Path) -> list[int]:
    """Process ids of the servers that serve a model below a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"llama-server" in line and os.fsencode(folder / "tiny.gguf") in line:
                found.append(int(entry.name))
    return found


def kept(folder: Path) -> int:
    files = list((folder / "store" / ".cache" / "answers").glob("*.sqlite"))
    if not files:
        return 0
    with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_is_taken_up(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host_build: Tools,
    end: signal.Signals,
) -> None:
    server = host_build.binary("llama-server")
    write_tiny_llama(tmp_path / "tiny.gguf")
    environment = {**os.environ, "EDGEQUANT_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(server)],
        cwd=Path(__file__).parents[2],
        env=environment,
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 60
        while kept(tmp_path) < 10 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(end)
        process.communicate(timeout=30)
    before = kept(tmp_path)
    assert 10 <= before < 2 * COUNT, "it was to be killed in the middle"
    deadline = time.monotonic() + 10
    while servers_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert servers_of(tmp_path) == []
    assert not list((tmp_path / "store").rglob("answers.parquet"))

    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    resumed = ask(tmp_path, server).frame()
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "elsewhere"))
    (tmp_path / "store").rename(tmp_path / "first-store")
    in_one_go = ask(tmp_path, server).frame()
    timings = ["prompt_seconds", "decode_seconds"]
    assert len(resumed) == 2 * COUNT
    assert resumed.drop(columns=timings).equals(in_one_go.drop(columns=timings))
    assert servers_of(tmp_path) == []


def test_closed_answers_go_on_from_the_tokens_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host_build: Tools
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    write_tiny_llama(tmp_path / "tiny.gguf")
    answers = generate(
        [ModelFile.of_path("F32", tmp_path / "tiny.gguf")],
        mirrors=servers(host_build.binary("llama-server"), workers=1),
        prompts=[load_prompt("cot")],
        strategies=[Truncate(), EarlyStop(budgets=(8, 20)), LoopStop()],
        questions=[Question("0001-aaaaaaaa", "1 + 1?", "2", "")],
        max_tokens=100,
        store=Store(tmp_path / "store"),
    )
    plain, *closed, _ = records(answers.frame())
    assert [row["closing_start"] for row in closed] == [8, 20]
    for row in closed:
        behind = row["closing_start"] + row["closing_tokens"]
        assert (
            row["token_ids"][: row["closing_start"]] == plain["token_ids"][: row["closing_start"]]
        )
        assert 1 <= len(row["token_ids"]) - behind <= 25
        assert "".join(row["token_texts"]) == row["text"]
        assert "".join(row["token_texts"][row["closing_start"] : behind]) == CLOSING
        assert row["prompt_tokens"] == plain["prompt_tokens"]
