"""The real probe on this machine, with a tiny model made here."""

from __future__ import annotations

import json
import random
import resource
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgequant.boards.board import Board, open_board
from edgequant.boards.profile import BoardProfile
from edgequant.core.artefact import Store
from edgequant.core.errors import ProbeError
from edgequant.latency.measure import Latency, MeasureSettings, measure
from edgequant.latency.probe import PROBE_NAME, ProbeOptions, parse_probe_output, run_probe

pytestmark = pytest.mark.integration

WIDTH, LAYERS, INNER, HEADS, VOCABULARY = 64, 2, 128, 2, 320


def tiny_gguf(path: Path, *, layers: int = LAYERS, broken: bool = False) -> Path:
    """A llama of random weights in f32 with a byte-level vocabulary; ``broken`` has NaN weights."""
    generator = random.Random(3)
    pieces = ["<unk>", "<s>", "</s>", "<|im_start|>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    pieces += [f"w{number}" for number in range(len(pieces), VOCABULARY)]
    kinds = [2, 3, 3, 3] + [6] * 256 + [1] * (VOCABULARY - 260)

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def entry(key: str, kind: int, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", kind) + value

    def number(key: str, value: int) -> bytes:
        return entry(key, 4, struct.pack("<I", value))

    def array(key: str, kind: int, values: list[bytes]) -> bytes:
        return entry(key, 9, struct.pack("<IQ", kind, len(values)) + b"".join(values))

    metadata = [
        entry("general.architecture", 8, text("llama")),
        number("general.file_type", 0),
        number("llama.context_length", 512),
        number("llama.embedding_length", WIDTH),
        number("llama.block_count", layers),
        number("llama.feed_forward_length", INNER),
        number("llama.attention.head_count", HEADS),
        number("llama.rope.dimension_count", WIDTH // HEADS),
        entry("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
        entry("tokenizer.ggml.model", 8, text("llama")),
        array("tokenizer.ggml.tokens", 8, [text(piece) for piece in pieces]),
        array("tokenizer.ggml.scores", 6, [struct.pack("<f", -i) for i in range(VOCABULARY)]),
        array("tokenizer.ggml.token_type", 5, [struct.pack("<i", kind) for kind in kinds]),
        number("tokenizer.ggml.bos_token_id", 1),
        number("tokenizer.ggml.eos_token_id", 2),
    ]
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (WIDTH, VOCABULARY),
        "output_norm.weight": (WIDTH,),
    }
    for layer in range(layers):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (WIDTH,),
            f"blk.{layer}.ffn_norm.weight": (WIDTH,),
            f"blk.{layer}.ffn_gate.weight": (WIDTH, INNER),
            f"blk.{layer}.ffn_up.weight": (WIDTH, INNER),
            f"blk.{layer}.ffn_down.weight": (INNER, WIDTH),
        }
        for name in ("q", "k", "v", "output"):
            shapes[f"blk.{layer}.attn_{name}.weight"] = (WIDTH, WIDTH)
    tensors, data = [], b""
    for name, shape in shapes.items():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        norm = len(shape) == 1
        values = [1.0 if norm else generator.gauss(0, 0.3) for _ in range(size)]
        if broken:
            values = [float("nan")] * size
        tensors.append(
            text(name)
            + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            + struct.pack("<IQ", 0, len(data))
        )
        data += struct.pack(f"<{size}f", *values)
        data += b"\0" * (-len(data) % 32)
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    header += b"".join(metadata) + b"".join(tensors)
    header += b"\0" * (-len(header) % 32)
    path.write_bytes(header + data)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="module")
def probe(host_build: Any) -> Path:
    path: Path = host_build.binary(PROBE_NAME)
    if not path.is_file():
        pytest.skip(f"the host build has no {PROBE_NAME}")
    return path


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return open_board(
        BoardProfile.model_validate(
            {
                "name": "here",
                "kind": "local",
                "build": {"target": "host"},
                "cpu": {"threads": 1},
                "remote_folder": str(tmp_path / "board"),
            }
        )
    )


def call(
    probe: Path, *arguments: str | Path, before: Callable[[], None] | None = None
) -> tuple[int, list[dict[str, Any]]]:
    """Exit status and events of one call."""
    done = subprocess.run(
        [probe, *arguments], capture_output=True, timeout=60, preexec_fn=before, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def error_of(probe: Path, *arguments: str | Path, **options: Any) -> str:
    """The message of a call that must fail with an error event as its last line."""
    status, events = call(probe, *arguments, **options)
    assert status != 0
    assert events[-1]["event"] == "error"
    return str(events[-1]["message"])


def test_a_run_has_every_event_and_repeats_token_for_token(probe: Path, model: Path) -> None:
    runs = []
    for _ in range(2):
        done = subprocess.run(
            [probe, "--model", model, "--prompt", "<|im_start|>hi", "-n", "5", "--threads", "1"],
            capture_output=True,
            check=True,
            timeout=60,
        )
        runs.append(parse_probe_output(done.stdout.decode().splitlines()))
    first, second = runs
    assert [t.token_id for t in first.tokens] == [t.token_id for t in second.tokens]
    assert len(first.tokens) == 5
    assert first.end.stop_reason == "limit"
    assert all(token.nanoseconds > 0 for token in first.tokens)
    assert first.load.model_bytes is not None
    assert first.prefill.resident_bytes is not None


def test_a_special_token_is_one_token_unless_told_otherwise(probe: Path, model: Path) -> None:
    def prompt_tokens(*more: str) -> int:
        _, events = call(probe, "--model", model, "--prompt", "<|im_start|>", "-n", "1", *more)
        return int(events[0]["prompt_tokens"])

    assert prompt_tokens("--parse-special", "0") > prompt_tokens() + 5


def test_batches_do_not_change_what_is_generated(probe: Path, model: Path) -> None:
    def tokens(batch: str) -> list[int]:
        arguments = ("--prompt", "a long enough prompt for it", "-n", "4", "--batch", batch)
        _, events = call(probe, "--model", model, *arguments, "--threads", "1")
        return [e["token_id"] for e in events if e["event"] == "token"]

    assert len(tokens("512")) == 4
    assert tokens("512") == tokens("8")


def test_pieces_are_valid_text_whatever_the_bytes(probe: Path, model: Path) -> None:
    status, events = call(probe, "--model", model, "--prompt", "x", "-n", "200")
    assert status == 0
    pieces = [event["piece"] for event in events if event["event"] == "token"]
    assert len(pieces) == 200
    assert "".join(pieces).encode()


def test_a_context_filled_to_the_last_token_is_enough(probe: Path, model: Path) -> None:
    arguments = ("--model", model, "--prompt", "x", "-n", "9")
    _, events = call(probe, *arguments)
    needed = events[0]["prompt_tokens"] + 9 - 1
    assert call(probe, *arguments, "--context", str(needed))[0] == 0
    message = error_of(probe, *arguments, "--context", str(needed - 1))
    assert "do not fit in a context" in message


@pytest.mark.parametrize("kept", [0, 3, 100, 3000, 100_000])
def test_a_truncated_model_is_an_error(probe: Path, model: Path, tmp_path: Path, kept: int) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:kept])
    assert "cannot load the model" in error_of(probe, "--model", cut, "--prompt", "x")


def test_errors_name_what_is_wrong(probe: Path, model: Path, tmp_path: Path) -> None:
    assert "No such file" in error_of(probe, "--model", tmp_path / "no.gguf", "--prompt", "x")
    assert "cannot load" in error_of(probe, "--model", tmp_path, "--prompt", "x")
    message = error_of(probe, "--model", model, "--prompt-file", tmp_path / "no.txt")
    assert "cannot open the prompt file" in message
    for bad in (("-n", "0"), ("-n", "x"), ("--repack", "2"), ("--cache-type-k", "q9"), ("--no",)):
        assert error_of(probe, "--model", model, "--prompt", "x", *bad)


def test_weights_that_are_no_numbers_are_noticed(probe: Path, tmp_path: Path) -> None:
    broken = tiny_gguf(tmp_path / "nan.gguf", broken=True)
    assert "not a number" in error_of(probe, "--model", broken, "--prompt", "x", "-n", "2")


def test_too_little_memory_is_an_error_event(probe: Path, model: Path) -> None:
    def little() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))

    huge = ("--context", "90000000")
    message = error_of(probe, "--model", model, "--prompt", "x", *huge, before=little)
    assert "too little memory" in message


def test_versions_are_printed(probe: Path) -> None:
    status, events = call(probe, "--version")
    assert status == 0
    assert events[0]["probe_version"] == 1
    assert events[0]["llama_cpp_commit"]


def test_a_prompt_goes_through_the_boards_shell(probe: Path, model: Path, board: Board) -> None:
    options = ProbeOptions(tokens=2, threads=1)
    prompts = {"plain": "it costs 5 dollars", "hostile": 'it\'s $(exit 3) `x` "5" \\ \n;'}
    for prompt in prompts.values():
        run = run_probe(board, str(probe), str(model), prompt, options)
        # One token for each byte, one for the space in front (three bytes) and one for BOS.
        assert run.start.prompt_tokens >= len(prompt)


def test_models_are_measured_on_a_local_board(
    host_build: Any, probe: Path, model: Path, board: Board, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    larger = tiny_gguf(tmp_path / "larger.gguf", layers=3)
    latency = measure(
        board,
        {"small": model, "large": larger},
        MeasureSettings(tokens=9, repeats=2),
        build=host_build,
        prompt="one two three",
        store=store,
    )
    assert [s.n for s in latency.summaries] == [16, 16]
    assert not latency.frame["failed"].any()
    assert {m.quantization for m in latency.paces} == {"small", "large"}
    assert all(m.source == "measured" and m.decode_seconds > 0 for m in latency.paces)
    small = latency.frame[latency.frame["quantization"] == "small"]
    assert small["prompt_tokens"].nunique() >= 3
    small = small[small["repeat"] <= 2]
    assert small["phase"].to_list() == [*["load", "prefill"], *["decode"] * 8] * 2
    facts = latency.artefact.manifest.details["board_facts"]
    assert isinstance(facts, dict)
    assert facts.get("error") is None


def test_a_truncated_model_fails_its_runs_and_leaves_no_artefact(
    host_build: Any, probe: Path, model: Path, board: Board, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(model.read_bytes()[:100_000])
    store = Store(tmp_path / "store")
    settings = MeasureSettings(tokens=4, repeats=1)

    def measured(models: dict[str, Path]) -> Latency:
        return measure(board, models, settings, build=host_build, prompt="x", store=store)

    with pytest.raises(ProbeError, match="cannot load the model"):
        measured({"cut": cut})
    assert not list((store.root / "latency").glob("*/manifest.json"))
    both = measured({"cut": cut, "whole": model})
    assert [(s.quantization, s.failed_repeats) for s in both.summaries] == [
        ("cut", 1),
        ("whole", 0),
    ]
