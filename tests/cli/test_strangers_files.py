"""Whatever is in a stranger's file or argument, the answer is an error of its class, never ours."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgequant.build.targets.target import load_target
from edgequant.cli import app
from edgequant.core import errors
from tests.models.gguf_writer import TensorSpec, gguf

DEEP = 100_000
DIGITS = "9" * 5_000
USAGE = app.USAGE_ERROR


@dataclass(frozen=True)
class Case:
    """One call: files by their path below the working folder, arguments, exit codes that do."""

    arguments: tuple[str, ...]
    codes: frozenset[int]
    files: dict[str, bytes] = field(default_factory=dict)


def nested_lists(depth: int = DEEP) -> str:
    return "[" * depth + "]" * depth


# What is no TOML to us, whatever the keys are called.
DOCUMENTS: dict[str, str | bytes] = {
    "nested-lists": f"x = {nested_lists()}",
    "nested-tables": "x = " + "{a=" * DEEP + "1" + "}" * DEEP,
    "nested-lists-below-recursion": f"x = {nested_lists(200)}",
    "dotted-key": "a" + ".a" * DEEP + " = 1",
    "quoted-dotted-key": '"a"' + '."a"' * DEEP + " = 1",
    "dotted-header": "[a" + ".a" * DEEP + "]",
    "many-digits": f"x = {DIGITS}",
    "more-than-64-bits": "x = 99999999999999999999",
    "nul-byte": "name = 'a\0b'",
    "nul-escape": 'name = "a\\u0000b"',
    "nul-in-key": '"a\\u0000b" = 1',
    "not-utf8": b"name = '\xff'",
    "utf16": "name = 'x'".encode("utf-16"),
    "two-megabytes": "# " + "x" * (2 << 20),
    "unclosed": "[model",
    "binary": bytes(range(256)),
    "impossible-date": "x = 2024-02-99",
    "list-of-dates": "name = [2024-01-01]",
    "escape-codes-in-key": '"\\u001b[31m" = 1',
    "empty": "",
}

NAMES: dict[str, str] = {
    "slashes": '"../../../x"',
    "absolute": '"/etc/x"',
    "dots": '".."',
    "empty": '""',
    "spaces": '"  "',
    "backslash": '"a\\\\b"',
    "newline": '"a\\nb"',
    "escape": '"\\u001b[2J"',
    "option": '"-rf"',
    "too-long": f'"{"x" * 5000}"',
    "number": "1",
    "list": '["a"]',
    "infinite": "inf",
    "turned-around": '"\\u202Eabc"',
}

NUMBERS = ("inf", "-inf", "nan", "-1", "0", "1e300", "1e-300", "true", '"1"', "[1]", "1979-05-27")

BOARD = """
name = "mine"
kind = "ssh"
[build]
target = "armv8-a"
[ssh]
host = "board.local"
"""
PROMPT = """
name = "mine"
system = "Think."
[budget]
sentence = "under {{ n }} tokens"
factor = 0.5
"""
TARGET = """
name = "mine"
description = "mine"
architecture = "aarch64"
isa = ["armv8-a"]
linkage = "static"
tools = ["edgequant-probe"]
"""
EXPERIMENT = """
name = "mine"
[model]
folder = "model"
types = ["Q8_0"]
[board]
name = "local.toml"
[evaluation]
questions = "questions.jsonl"
prompts = ["prompt.toml"]
stated_budgets = [64]
"""
LOCAL_BOARD = 'kind = "local"\n[build]\ntarget = "host"\n'

QUESTION = '{"question": "1 + 1?", "answer": "#### 2"}'
QUESTIONS: dict[str, str | bytes] = {
    "nested-lists": nested_lists(),
    "nested-objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "nested-beside": f'{{"question": "q", "answer": "#### 1", "more": {nested_lists()}}}',
    "many-digits": f'{{"question": "q", "answer": "#### 1", "more": {DIGITS}}}',
    "many-digits-in-answer": f'{{"question": "q", "answer": "#### {DIGITS}"}}',
    "answer-over-64-bits": '{"question": "q", "answer": "#### 99999999999999999999"}',
    "other-digits": '{"question": "q", "answer": "#### ²"}',
    "one-huge-line": '{"question": "' + "q" * (2 << 20) + '", "answer": "#### 1"}',
    "half-a-pair": '{"question": "\\ud800", "answer": "#### 1"}',
    "half-a-pair-in-answer": '{"question": "q", "answer": "\\ud800"}',
    "not-utf8": b'{"question": "\xff", "answer": "#### 1"}',
    "utf16": QUESTION.encode("utf-16"),
    "numbers": '{"question": 1, "answer": 2}',
    "no-object": "[]",
    "constant": "NaN",
    "empty": "",
    "binary": bytes(range(256)),
    "choices-nested": f'{{"question": "q", "choices": {nested_lists()}, "answer": 0}}',
    "choices-of-numbers": '{"question": "q", "choices": [1, 2], "answer": 0}',
    "choices-half-a-pair": '{"question": "q", "choices": ["\\ud800", "b"], "answer": 0}',
    "choices-too-many": f'{{"question": "q", "choices": {["x"] * 99}, "answer": 0}}'.replace(
        "'", '"'
    ),
    "choice-is-none": '{"question": "q", "choices": ["a", "b"], "answer": 2}',
    "choice-is-long": f'{{"question": "q", "choices": ["a", "b"], "answer": "{"B" * 50_000}"}}',
    "choice-escape": '{"question": "q", "choices": ["a", "b"], "answer": "\\u001b[2J"}',
    "labels-without-texts": '{"question": "q", "choices": {"label": ["A"]}, "answerKey": "A"}',
    "label-is-long": '{"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, '
    f'"answerKey": "{"C" * 50_000}"}}',
}
TEMPLATES = {
    "unclosed": "{{ n",
    "unknown": "{{ " + "x" * 50_000 + " }}",
    "escape": "{{ \\u001b[2J }}",
    "call": "{{ question.format(n) }}",
    "globals": "{{ question.__class__.__mro__ }}",
    "power": "{{ 9 ** 9 ** 9 }}",
    "many": "{{ 'x' * 10000000000 }}",
    "loops": "{% for a in question %}{% for b in question %}{% endfor %}{% endfor %}",
    "include": "{% include '/etc/passwd' %}",
    "nested": "{{ " + "(" * 20_000 + "n" + ")" * 20_000 + " }}",
    "levels": "{% if n %}" * 5_000 + "{% endif %}" * 5_000,
    "no-item": "{{ choices[7] }}",
}

CONFIG = {"architectures": ["LlamaForCausalLM"], "torch_dtype": "float32"}
HEADERS: dict[str, object] = {
    "nested": None,
    "list": [],
    "no-shape": {"a": {"dtype": "F32", "data_offsets": [0, 4]}},
    "shape-of-text": {"a": {"dtype": "F32", "shape": ["1"], "data_offsets": [0, 4]}},
    "shape-of-floats": {"a": {"dtype": "F32", "shape": [1e308], "data_offsets": [0, 4]}},
    "shape-of-lists": {"a": {"dtype": "F32", "shape": [[1]], "data_offsets": [0, 4]}},
    "negative-shape": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    "many-dimensions": {"a": {"dtype": "F32", "shape": [2**62] * 9000, "data_offsets": [0, 4]}},
    "offsets-of-text": {"a": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "x"]}},
    "one-offset": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
    "dtype-list": {"a": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}},
}
INDEXES: dict[str, str] = {
    "nested": nested_lists(),
    "many-digits": DIGITS,
    "list": "[]",
    "map-of-lists": '{"weight_map": {"a": ["b"]}}',
    "map-is-text": '{"weight_map": "a"}',
    "escape": '{"weight_map": {"a": "\\u001b[2J"}}',
}

RIGHT_ANSWERS: dict[str, list[object]] = {
    "question_id": ["0001"],
    "question_sha256": ["ab"],
    "question": ["What is 1 + 1?"],
    "expected_answer": ["2"],
}
ANSWERS: dict[str, list[object]] = {
    "quantization": ["Q8_0"],
    "prompt": ["cot"],
    "strategy": ["truncate"],
    "budget_tokens": [None],
    "question_id": ["0001"],
    "question_sha256": ["ab"],
    "token_ids": [[1]],
    "token_texts": [["2"]],
    "text": ["2"],
    "stop_reason": ["eos"],
    "prompt_tokens": [10],
    "max_tokens": [100],
    "model_sha256": ["ab"],
    "llama_cpp_commit": ["0c1e57098"],
}


def data(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def parquet(columns: dict[str, list[object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def safetensors(header: object) -> bytes:
    text = (nested_lists() if header is None else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + bytes(4)


def toml_cases() -> Iterator[tuple[str, Case]]:
    board = frozenset({errors.ProfileError.exit_code})
    experiment = frozenset({errors.ExperimentError.exit_code})
    prompt = frozenset({errors.PromptError.exit_code})
    target = frozenset({errors.TargetError.exit_code})

    def of_board(text: str | bytes) -> Case:
        return Case(("board", "show", "x.toml"), board, {"x.toml": data(text)})

    def of_experiment(text: str | bytes) -> Case:
        return Case(("sweep", "x.toml"), experiment, {"x.toml": data(text)})

    def of_target(text: str | bytes) -> Case:
        return Case(("build", "--target", "x"), target, {"toolchain/targets/x.toml": data(text)})

    for name, text in DOCUMENTS.items():
        if name == "empty":
            yield f"prompt-{name}", prompt_case(b"user = ''", prompt)
        else:
            yield f"prompt-{name}", prompt_case(data(text), prompt)
        yield f"board-{name}", of_board(text)
        yield f"experiment-{name}", of_experiment(text)
        yield f"target-{name}", of_target(text)
    for name, value in NAMES.items():
        line = f"name = {value}"
        yield f"board-name-{name}", of_board(BOARD.replace('name = "mine"', line))
        yield f"experiment-name-{name}", of_experiment(EXPERIMENT.replace('name = "mine"', line))
        yield f"prompt-name-{name}", prompt_case(PROMPT.replace('name = "mine"', line), prompt)
        yield f"target-name-{name}", of_target(TARGET.replace('name = "mine"', line))
    for name, text in TEMPLATES.items():
        mine = PROMPT.replace('"Think."', f'"{text}"')
        yield f"prompt-template-{name}", prompt_case(mine, prompt)
    for number in NUMBERS:
        label = number.strip('"[]')
        rate = f"{BOARD}connect_timeout_seconds = {number}\n"
        if number not in ("true", '"1"', "1e-300"):
            yield f"board-timeout-{label}", of_board(rate)
        if number not in ("true", '"1"'):
            clock = f"{BOARD}[cpu]\nclock_hz = {number}\n"
            yield f"board-clock-{label}", of_board(clock)
        if number not in ("true", '"1"', "1e-300"):
            limits = f"time_limits_seconds = [{number}]\n{EXPERIMENT}"
            yield f"experiment-limit-{label}", of_experiment(limits)
            factor = PROMPT.replace("0.5", number)
            yield f"prompt-factor-{label}", prompt_case(factor, prompt)
    for host in ('"-oProxyCommand=id"', '"a b"', '""', '"\\u001b[2J"', "1"):
        yield f"board-host-{host}", of_board(BOARD.replace('"board.local"', host))
    for folder in ('""', '"~no-such-user/x"', "1", "[]", "{}"):
        text = EXPERIMENT.replace('"model"', folder)
        model = frozenset({errors.ModelFolderError.exit_code})
        codes = model if folder.startswith('"') else experiment
        yield (
            f"experiment-folder-{folder}",
            Case(("sweep", "x.toml"), codes, {"x.toml": data(text)}),
        )


def prompt_case(text: str | bytes, codes: frozenset[int]) -> Case:
    return sweep_case({"prompt.toml": data(text)}, codes)


def sweep_case(files: dict[str, bytes], codes: frozenset[int]) -> Case:
    """A sweep in which all is well but the given files."""
    well: dict[str, bytes] = {
        "x.toml": EXPERIMENT.encode(),
        "local.toml": LOCAL_BOARD.encode(),
        "prompt.toml": PROMPT.encode(),
        "questions.jsonl": QUESTION.encode(),
        **{f"model/{name}": content for name, content in model_folder().items()},
    }
    return Case(("sweep", "x.toml"), codes, {**well, **files})


def model_folder(**files: bytes) -> dict[str, bytes]:
    tensor = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": safetensors(tensor),
    }


def json_cases() -> Iterator[tuple[str, Case]]:
    questions = frozenset({errors.DataSetError.exit_code})
    for name, text in QUESTIONS.items():
        yield f"questions-{name}", sweep_case({"questions.jsonl": data(text)}, questions)
    of_parquet = EXPERIMENT.replace("questions.jsonl", "q.parquet").encode()
    well: dict[str, list[object]] = {
        "question": ["q"],
        "choices": [["a", "b"]],
        "answer": [1],
    }
    for name, table in {
        "none": b"",
        "text": b"PAR1" * 9,
        "binary": parquet({**well, "question": [b"\xff"]}),
        "answer-of-floats": parquet({**well, "answer": [0.5]}),
        "choices-of-lists": parquet({**well, "choices": [[["a"], ["b"]]]}),
        "choices-empty": parquet({**well, "choices": [None]}),
        "no-question": parquet({"answer": [1]}),
        "no-rows": parquet({"question": [], "answer": []}),
    }.items():
        files = {"x.toml": of_parquet, "q.parquet": table}
        yield f"questions-parquet-{name}", sweep_case(files, questions)
    folder = frozenset({errors.ModelFolderError.exit_code})

    def quantize(files: dict[str, bytes]) -> Case:
        well = {f"model/{name}": content for name, content in model_folder().items()}
        return Case(("quantize", "model", "--type", "Q8_0"), folder, {**well, **files})

    for name, text in {
        "nested": nested_lists(),
        "nested-in-object": f'{{"architectures": {nested_lists()}}}',
        "many-digits": f'{{"architectures": ["X"], "hidden_size": {DIGITS}}}',
        "list": "[]",
        "architectures-of-numbers": '{"architectures": [1]}',
        "not-utf8": b"\xff",
        "empty": b"",
    }.items():
        yield f"config-{name}", quantize({"model/config.json": data(text)})
    for name, header in HEADERS.items():
        yield f"safetensors-{name}", quantize({"model/model.safetensors": safetensors(header)})
    for name, text in INDEXES.items():
        yield f"index-{name}", quantize({"model/model.safetensors.index.json": data(text)})
    for name, text in {"nested": nested_lists(), "digits": DIGITS, "list": "[]"}.items():
        run = frozenset({errors.ArtefactError.exit_code})
        yield f"run-{name}", Case(("report", "run"), run, {"run/manifest.json": data(text)})


def gguf_cases() -> Iterator[tuple[str, Case]]:
    tensor = TensorSpec("a", (32,), "F32")
    whole = gguf({"general.architecture": "llama"}, [tensor])
    arrays = struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + struct.pack("<Q", 1) + b"a"
    for name, content in {
        "empty": b"",
        "magic-alone": b"GGUF",
        "cut": whole[: len(whole) // 2],
        "many-claims": struct.pack("<4sIQQ", b"GGUF", 3, 2**63, 2**63),
        "nested-arrays": arrays + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * DEEP,
        "not-gguf": b"x" * 1000,
    }.items():
        codes = frozenset({errors.GgufError.exit_code})
        yield (
            f"gguf-{name}",
            Case(("measure", "local.toml", "x.gguf"), codes, {"x.gguf": content}),
        )


def table_cases() -> Iterator[tuple[str, Case]]:
    codes = frozenset({errors.DataFrameError.exit_code})
    wrong: dict[str, list[object]] = {
        "integer": [1],
        "float": [1.5],
        "text": ["x"],
        "null": [None],
        "list": [[1]],
        "nested": [[[["x"]]]],
        "struct": [{"a": 1}],
        "bytes": [b"\xff"],
        "infinite": [float("inf")],
    }
    fits = {
        "quantization": {"text"},
        "prompt": {"text"},
        "question_id": {"text"},
        "text": set(),
        "token_texts": set(),
        "token_ids": {"list"},
        "prompt_tokens": {"integer"},
        "stop_reason": {"text"},
    }
    for column, allowed in fits.items():
        for kind, values in wrong.items():
            if kind not in allowed:
                table = parquet({**ANSWERS, column: values})
                yield f"answers-{column}-{kind}", match_case(table, codes)
    for kind, values in wrong.items():
        if kind != "text":
            table = parquet({**RIGHT_ANSWERS, "expected_answer": values})
            yield f"expected-{kind}", match_case(parquet(ANSWERS), codes, table)
    for name, content in {"empty": b"", "text": b"x" * 100, "magic": b"PAR1PAR1PAR1"}.items():
        yield f"answers-{name}", match_case(content, codes)
        yield f"questions-{name}-parquet", match_case(parquet(ANSWERS), codes, content or b"PAR1")


def match_case(answers: bytes, codes: frozenset[int], questions: bytes | None = None) -> Case:
    arguments = ("match", "--answers", "a.parquet", "--questions", "q.parquet")
    files = {"a.parquet": answers, "q.parquet": questions or parquet(RIGHT_ANSWERS)}
    return Case((*arguments, "--study", "--out", "out"), codes, files)


def argument_cases() -> Iterator[tuple[str, Case]]:
    usage = frozenset({USAGE})
    for arguments in (
        ("board", "show", "a\0b"),
        ("sweep", "a\0b.toml"),
        ("sweep", "x.toml", "--out", "a\0b"),
        ("quantize", "a\0b"),
        ("report", "a\0b"),
        ("match", "--answers", "a\0b", "--questions", "q", "--study", "--out", "x"),
        ("measure", "local.toml", "a\0b.gguf"),
        ("serve", "a\0b.gguf"),
        ("build", "--target", "a\0b"),
        ("toolchain", "source", "--source", "a\0b"),
        ("deploy", "local.toml", "a\0b"),
        ("measure", "local.toml", "x.gguf", "-n", DIGITS),
        (
            "match",
            "--answers",
            "x",
            "--questions",
            "q",
            "--study",
            "--out",
            "x",
            "--budget",
            DIGITS,
        ),
        (
            "match",
            "--answers",
            "x",
            "--questions",
            "q",
            "--study",
            "--out",
            "x",
            "--time-limit",
            "nan",
        ),
        (
            "match",
            "--answers",
            "x",
            "--questions",
            "q",
            "--study",
            "--out",
            "x",
            "--time-limit",
            "inf",
        ),
        (
            "match",
            "--answers",
            "x",
            "--questions",
            "q",
            "--study",
            "--out",
            "x",
            "--time-limit",
            "1e300",
        ),
        (
            "match",
            "--answers",
            "x",
            "--questions",
            "q",
            "--study",
            "--out",
            "x",
            "--budget",
            "9" * 30,
        ),
        (
            "match",
            "--answers",
            "x",
            "--questions",
            "q",
            "--study",
            "--out",
            "x",
            "--explain-rows",
            "9" * 30,
        ),
        ("serve", "x.gguf", "--context", "9" * 30),
    ):
        yield f"arguments-{len(arguments)}-{'-'.join(arguments)!a:.60}", Case(arguments, usage)
    lost = frozenset(
        {
            errors.ProfileError.exit_code,
            errors.ExperimentError.exit_code,
            errors.ModelFolderError.exit_code,
            errors.TargetError.exit_code,
            errors.FileAccessError.exit_code,
            errors.ArtefactError.exit_code,
            errors.DataFrameError.exit_code,
            errors.SourceError.exit_code,
            errors.GgufError.exit_code,
        }
    )
    for name in ("~no-such-user/x.toml", "x" * 5000, "\udcff", "\x1b[2J", "", "a\nb", "../../x"):
        for verb in (
            ("board", "show"),
            ("sweep",),
            ("quantize",),
            ("build", "--target"),
            ("report",),
            ("match", "--questions", "q.jsonl", "--study", "--out", "x", "--answers"),
            ("toolchain", "source", "--source"),
            ("measure", "local.toml"),
        ):
            yield f"argument-{'-'.join(verb)}-{name!a:.30}", Case((*verb, name), lost)


CASES = {
    name: case
    for cases in (toml_cases, json_cases, gguf_cases, table_cases, argument_cases)
    for name, case in cases()
}


@pytest.fixture(autouse=True)
def _nothing_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is malformed must be refused before anything is built, and not be taken for ours."""

    def build(target: str, **_: object) -> None:
        load_target(target)
        raise AssertionError("was taken for well-formed: a build would start")

    monkeypatch.setattr("edgequant.build.build.build", build)
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("local.toml").write_text(LOCAL_BOARD)


def call(case: Case) -> int:
    for name, content in case.files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return app.run(case.arguments)


@pytest.mark.parametrize("name", CASES)
def test_what_is_malformed_is_refused_with_a_reason(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    code = call(case)
    message = capsys.readouterr().err
    assert code in case.codes, message
    assert len(message) < 20_000, message[:1000]
    assert "\x1b" not in message
    assert re.search(r"unexpected [A-Z]\w*: ", message) is None


def test_the_list_is_long_enough() -> None:
    assert len(CASES) > 100


def test_what_the_cases_change_is_accepted_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(Case(("board", "show", "x.toml"), frozenset(), {"x.toml": BOARD.encode()})) == 0
    assert call(match_case(parquet(ANSWERS), frozenset())) == 0
    capsys.readouterr()
    # The sweep comes as far as the build, which is refused here.
    assert call(sweep_case({}, frozenset())) == errors.InternalError.exit_code
    assert "a build would start" in capsys.readouterr().err


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(
        st.sampled_from(EXPERIMENT.splitlines() + BOARD.splitlines() + PROMPT.splitlines())
        | st.text(max_size=30),
        max_size=20,
    )
)
def test_no_text_is_unexpected(lines: list[str]) -> None:
    Path("x.toml").write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    Path("questions.jsonl").write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    for arguments in (("board", "show", "x.toml"), ("sweep", "x.toml")):
        assert app.run(arguments) != errors.InternalError.exit_code
