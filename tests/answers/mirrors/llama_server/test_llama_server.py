"""The mirror's life: it starts, fails in clear words, and never outlives us."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgequant.answers.mirrors.llama_server.process import (
    ServerPolicy,
    listening_address,
    server_arguments,
    server_environment,
)
from edgequant.answers.mirrors.llama_server.server import LlamaServer
from edgequant.answers.prompts import load_prompt, render
from edgequant.core.errors import GgufError, MirrorError, PortInUseError, ToolMissingError
from tests.answers.mirrors.llama_server.fake_tokenizer import FakeTokenizer


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "server.log"


def test_it_answers_and_stops(fake_server: Path, model: Path, log: Path) -> None:
    with LlamaServer(fake_server, model, log=log, tokenizer=FakeTokenizer()) as mirror:
        pid = mirror.pid
        assert pid is not None
        assert mirror.url.startswith("http://127.0.0.1:")
        assert mirror.context == 4096
        text = mirror.apply_template(render(load_prompt("cot"), "Why?"))
        assert text.endswith("[user]Why?[assistant]")
        whole = mirror.complete(text, 100)
        cut = mirror.complete(text, 5)
    assert gone(pid)
    assert whole.stop_reason == "eos"
    assert b"".join(whole.pieces).decode() == whole.text
    assert whole.pieces[-1] == b"", "the token that ends the answer is no text"
    assert whole.decode_seconds == pytest.approx(0.0015 * len(whole.token_ids))
    assert cut.stop_reason == "limit"
    assert cut.token_ids == whole.token_ids[:5]


def test_bos_is_never_doubled(fake_server: Path, model: Path, log: Path) -> None:
    with LlamaServer(fake_server, model, log=log, tokenizer=FakeTokenizer()) as mirror:
        assert mirror.tokenize("hi") == [1, 107, 108]
        assert mirror.tokenize("<s>hi") == [1, 107, 108]
        assert mirror.tokenize("aa", add_special=False) == [100, 100]
        assert mirror.complete("<s>hi", 9).prompt_tokens == 3


def test_it_is_stopped_on_an_error_in_the_block(fake_server: Path, model: Path, log: Path) -> None:
    with pytest.raises(KeyboardInterrupt), LlamaServer(fake_server, model, log=log) as mirror:
        pid = mirror.pid
        raise KeyboardInterrupt
    assert pid is not None
    assert gone(pid)


def test_a_deaf_server_is_stopped_too(
    fake_server: Path, model: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "deaf")
    with LlamaServer(fake_server, model, log=log, tokenizer=FakeTokenizer()) as mirror:
        pid = mirror.pid
    mirror.stop()
    assert pid is not None
    assert gone(pid)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_dies_with_us(fake_server: Path, model: Path, log: Path, end: signal.Signals) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from edgequant.answers.mirrors.llama_server.server import LlamaServer\n"
        "with LlamaServer(Path(sys.argv[1]), Path(sys.argv[2]), log=Path(sys.argv[3])) as mirror:\n"
        "    print(mirror.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(fake_server), str(model), str(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(end)
        parent.wait(20)
    assert gone(pid)


def test_a_taken_port_is_seen_before_the_start(fake_server: Path, model: Path, log: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        mirror = LlamaServer(fake_server, model, log=log, port=port)
        with pytest.raises(PortInUseError, match="taken") as caught:
            mirror.start()
    assert caught.value.subject == f"127.0.0.1:{port}"
    assert mirror.pid is None


def test_a_port_taken_at_the_last_moment(
    fake_server: Path, model: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "port-race")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(PortInUseError), LlamaServer(fake_server, model, log=log, port=port):
        pass


def test_a_server_that_dies_shows_its_last_lines(
    fake_server: Path, model: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "die-at-start")
    with (
        pytest.raises(MirrorError, match="fake: error loading model") as caught,
        LlamaServer(fake_server, model, log=log),
    ):
        pass
    assert "exit status 1" in caught.value.cause
    assert str(log) in str(caught.value)


def test_a_server_that_dies_while_it_answers(
    fake_server: Path, model: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "die-after-1")
    with LlamaServer(fake_server, model, log=log, tokenizer=FakeTokenizer()) as mirror:
        mirror.complete("first", 9)
        with pytest.raises(MirrorError, match="fake: out of memory"):
            mirror.complete("second", 9)


@pytest.mark.parametrize(
    ("mode", "cause"), [("refuse", "no such thing"), ("nonsense", "cannot be read")]
)
def test_a_wrong_answer_is_an_error(
    fake_server: Path,
    model: Path,
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    cause: str,
) -> None:
    monkeypatch.setenv("FAKE_MODE", mode)
    with (
        LlamaServer(fake_server, model, log=log, tokenizer=FakeTokenizer()) as mirror,
        pytest.raises(MirrorError, match=cause),
    ):
        mirror.complete("first", 9)


def test_what_does_not_fit_into_the_context_is_not_asked(
    fake_server: Path, model: Path, log: Path
) -> None:
    policy = ServerPolicy(context=64)
    with LlamaServer(
        fake_server, model, log=log, policy=policy, tokenizer=FakeTokenizer()
    ) as mirror:
        mirror.complete("x" * 30, 32)
        with pytest.raises(MirrorError, match="do not fit into the context of 64") as caught:
            mirror.complete("x" * 30, 33)
    assert caught.value.next_step is not None


def test_a_model_without_a_template(fake_server: Path, model: Path, log: Path) -> None:
    tokenizer = FakeTokenizer(has_template=False)
    with (
        LlamaServer(fake_server, model, log=log, tokenizer=tokenizer) as mirror,
        pytest.raises(MirrorError, match="no chat template") as caught,
    ):
        mirror.apply_template(render(load_prompt("cot"), "Why?"))
    assert caught.value.next_step is not None
    assert "chatml" in caught.value.next_step


def test_wrong_files(fake_server: Path, model: Path, tmp_path: Path, log: Path) -> None:
    with pytest.raises(ToolMissingError):
        LlamaServer(tmp_path / "no-server", model, log=log).start()
    with pytest.raises(GgufError):
        LlamaServer(fake_server, tmp_path / "absent.gguf", log=log).start()
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(model.read_bytes()[:-3])
    with pytest.raises(GgufError, match="truncated"):
        LlamaServer(fake_server, damaged, log=log).start()


def test_the_environment_does_not_change_the_server(
    fake_server: Path, model: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LLAMA_API_KEY", "LLAMA_ARG_N_PARALLEL", "AIP_MODE"):
        monkeypatch.setenv(name, "1")
    # A proxy that nobody listens on: a request through it would fail.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with LlamaServer(fake_server, model, log=log, tokenizer=FakeTokenizer()) as mirror:
        mirror.complete("hi", 9)
    assert "leaked false" in log.read_text().lower()
    kept = server_environment({"LLAMA_ARG_PORT": "1", "AIP_MODE": "x", "PATH": "/bin"})
    assert kept == {"PATH": "/bin"}
    assert os.environ["LLAMA_API_KEY"] == "1"


def test_reference_mode_is_one_slot_without_any_cache() -> None:
    policy = ServerPolicy()
    arguments = server_arguments(Path("llama-server"), Path("m.gguf"), policy, 0)
    pairs = dict(itertools.pairwise(arguments))
    assert policy.is_reference
    assert pairs["--host"] == "127.0.0.1"
    assert pairs["--parallel"] == "1"
    assert pairs["--cache-ram"] == "0"
    assert pairs["--ctx-checkpoints"] == "0"
    assert "--no-cache-prompt" in arguments
    assert not ServerPolicy(slots=2).is_reference
    assert not ServerPolicy(prompt_cache=True).is_reference


def test_the_address_is_read_from_the_log() -> None:
    # A line that is only half written must not give half a port.
    assert listening_address("I srv  server: listening on http://127.0.0.1:45") is None
    assert (
        listening_address("0.00.07 I srv  server: listening on http://127.0.0.1:45405\nmore")
        == "http://127.0.0.1:45405"
    )
