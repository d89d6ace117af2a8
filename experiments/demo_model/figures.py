"""Print the demo model's figures from the shipped files, through llama.cpp.

Converts the Hugging Face folder to GGUF, quantizes it, starts llama-server for each type, asks the
shipped questions and prints accuracy, answer length and speed:

    python -m experiments.demo_model.figures --bin BUILD/bin --source LLAMA_CPP_TREE

One slot without prompt cache is the reference; ``--slots`` is faster and may differ a little.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .evaluate import last_boxed
from .examples import chat_text

HERE = Path(__file__).parent
TYPES = ("f16", "Q8_0", "Q6_K", "Q4_K_M", "Q3_K_M", "Q2_K")
STATED = (8, 16, 32, 64, 128)
LIMIT = 400
"""Tokens an answer may have where no limit is meant; full answers stay well below."""


@dataclass(frozen=True, slots=True)
class Score:
    """What one type did with one prompt."""

    questions: int
    right: int
    answer_tokens: float
    """Mean length of an answer, its end marker included."""
    within: float
    """Share of answers no longer than the stated budget (1.0 where none was stated)."""
    prompt_tokens: float
    tokens_per_second: float
    """Median generation speed as the server reports it."""

    @property
    def accuracy(self) -> float:
        return self.right / self.questions


def load_questions(path: Path, count: int) -> list[tuple[str, int]]:
    """Return the first ``count`` questions with their integer answers."""
    found = []
    for line in path.read_text().splitlines()[:count]:
        row = json.loads(line)
        found.append((row["question"], int(row["answer"].rsplit("####", 1)[1])))
    return found


def make_gguf(folder: Path, source: Path, binaries: Path, work: Path, kind: str) -> Path:
    """Return the GGUF of one type, made in ``work`` if it is not there yet."""
    target = work / f"{kind}.gguf"
    if target.exists():
        return target
    partial = work / f"{kind}.partial"
    if kind == "f16":
        # The converter needs the gguf package of its own tree.
        environment = {**os.environ, "PYTHONPATH": str(source / "gguf-py")}
        command = [sys.executable, str(source / "convert_hf_to_gguf.py"), str(folder)]
        command += ["--outtype", "f16", "--outfile", str(partial)]
    else:
        environment = dict(os.environ)
        f16 = make_gguf(folder, source, binaries, work, "f16")
        command = [str(binaries / "llama-quantize"), str(f16), str(partial), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"making {kind} failed: {' '.join(command)}\n{done.stderr[-2000:]}")
    partial.rename(target)
    return target


class Server:
    """A running llama-server for one GGUF."""

    def __init__(self, url: str) -> None:
        self._url = url

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send one request and return the decoded answer."""
        request = urllib.request.Request(
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def complete(self, prompt: str, limit: int) -> dict[str, Any]:
        """Return the server's answer to a raw prompt, decoded greedily."""
        body = {
            "prompt": prompt,
            "n_predict": limit,
            "temperature": 0.0,
            "cache_prompt": False,
            "return_tokens": True,
        }
        result: dict[str, Any] = self.post("/completion", body)
        return result


@contextlib.contextmanager
def serve(binaries: Path, model: Path, threads: int, slots: int) -> Iterator[Server]:
    """Run llama-server on a free port for as long as the block lasts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(binaries / "llama-server"), "-m", str(model), "--host", "127.0.0.1"]
    command += ["--port", str(port), "-t", str(threads), "--parallel", str(slots)]
    command += ["-c", str(1024 * slots), "--cache-ram", "0"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=errors, stderr=errors)
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(300):
                if process.poll() is not None:
                    errors.seek(0)
                    text = errors.read().decode(errors="replace")[-2000:]
                    raise SystemExit(f"llama-server stopped: {text}")
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.2)
            else:
                raise SystemExit(f"llama-server did not answer on port {port} within a minute")
            yield Server(url)
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def score(
    server: Server,
    questions: list[tuple[str, int]],
    prompt: str,
    stated: int | None,
    slots: int,
    raw: list[dict[str, Any]] | None = None,
) -> Score:
    """Ask every question and grade by the last ``\\boxed{}``."""

    def ask(question: str) -> dict[str, Any]:
        return server.complete(chat_text(prompt, stated, question), LIMIT)

    with ThreadPoolExecutor(slots) as pool:
        answers = list(pool.map(ask, [question for question, _ in questions]))
    lengths = [len(answer["tokens"]) for answer in answers]
    speeds = sorted(answer["timings"]["predicted_per_second"] for answer in answers)
    grades = [
        last_boxed(answer["content"]) == right
        for answer, (_, right) in zip(answers, questions, strict=True)
    ]
    if raw is not None:
        for answer, (question, right), length in zip(answers, questions, lengths, strict=True):
            raw.append(
                {
                    "prompt": prompt,
                    "stated": stated,
                    "question": question,
                    "right": right,
                    "text": answer["content"],
                    "tokens": length,
                }
            )
    within = [stated is None or length <= stated for length in lengths]
    return Score(
        questions=len(questions),
        right=sum(grades),
        answer_tokens=sum(lengths) / len(lengths),
        within=sum(within) / len(within),
        prompt_tokens=sum(answer["tokens_evaluated"] for answer in answers) / len(answers),
        tokens_per_second=speeds[len(speeds) // 2],
    )


def main() -> None:
    """Print the figures as a table, or as JSON lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--bin", type=Path, required=True, help="folder with llama-server and llama-quantize")
    add("--source", type=Path, required=True, help="the llama.cpp tree with the converter")
    add("--model", type=Path, default=HERE / "model", help="Hugging Face folder")
    add("--questions", type=Path, default=HERE / "questions.jsonl")
    add("--count", type=int, default=200, help="how many questions, from the top of the file")
    add("--types", default=",".join(TYPES))
    add("--prompts", default="cot,aav", help="prompts to ask without a limit")
    add("--stated-prompts", default="cot", help="prompts to ask with a stated budget")
    add("--stated", default=",".join(map(str, STATED)), help="stated budgets in tokens")
    add("--stated-types", default="f16", help="types to ask with a stated budget")
    add("--threads", type=int, default=max(1, min(4, os.cpu_count() or 1)))
    add("--slots", type=int, default=1, help="1 is the reference; more is faster")
    add("--work", type=Path, help="folder to keep the GGUF files in (default: a temporary one)")
    add("--raw", type=Path, help="write every answer to this JSONL file")
    add("--json", action="store_true", help="print one JSON object a line")
    arguments = parser.parse_args()
    questions = load_questions(arguments.questions, arguments.count)
    split = [[part for part in text.split(",") if part] for text in (
        arguments.types, arguments.prompts, arguments.stated_prompts, arguments.stated,
        arguments.stated_types,
    )]  # fmt: skip
    types, prompts, stated_prompts, stated, stated_types = split
    if not arguments.json:
        print(
            f"{'type':7} {'bytes':>9} {'prompt':6} {'stated':>6} {'accuracy':>8} {'answer':>7} "
            f"{'within':>6} {'prompt':>6} {'tokens/s':>8}   ({len(questions)} questions)"
        )
    with contextlib.ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        raw_file = stack.enter_context(arguments.raw.open("w")) if arguments.raw else None
        for kind in types:
            model = make_gguf(arguments.model, arguments.source, arguments.bin, work, kind)
            asks: list[tuple[str, int | None]] = [(prompt, None) for prompt in prompts]
            if kind in stated_types:
                asks += [(prompt, int(n)) for prompt in stated_prompts for n in stated]
            with serve(arguments.bin, model, arguments.threads, arguments.slots) as server:
                for prompt, budget in asks:
                    raw: list[dict[str, Any]] = []
                    result = score(server, questions, prompt, budget, arguments.slots, raw)
                    if raw_file:
                        for row in raw:
                            raw_file.write(json.dumps({"type": kind, **row}) + "\n")
                        raw_file.flush()
                    report(kind, model.stat().st_size, prompt, budget, result, arguments.json)


def report(
    kind: str, size: int, prompt: str, stated: int | None, result: Score, as_json: bool
) -> None:
    """Print one line."""
    if as_json:
        row = {
            "type": kind,
            "bytes": size,
            "prompt": prompt,
            "stated": stated,
            "questions": result.questions,
            "accuracy": result.accuracy,
            "answer_tokens": result.answer_tokens,
            "within": result.within,
            "prompt_tokens": result.prompt_tokens,
            "tokens_per_second": result.tokens_per_second,
        }
        print(json.dumps(row), flush=True)
        return
    print(
        f"{kind:7} {size:9,} {prompt:6} {stated or '-':>6} {result.accuracy:8.1%} "
        f"{result.answer_tokens:7.1f} {result.within:6.0%} {result.prompt_tokens:6.0f} "
        f"{result.tokens_per_second:8.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
