"""Answers per second, beside lm-evaluation-harness on the same llama-server.

    python benchmarks/harness.py MODEL.gguf --harness PYTHON [--questions N] [--parallel N]

One server of our host build; both ask it the same rendered prompts, N at once, greedily, with the
same limit, and take turns. PYTHON is an interpreter that has lm-eval: a virtual environment of its
own. Seconds are those of its `generate_until` alone, without the building of its task; of ours
those of the whole `generate`, rendering, keeping and writing included, with nothing kept from
before. Then what ten truncate budgets cost: they are cuts of the one answer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgequant.answers.generate import generate
from edgequant.answers.mirrors.llama_server.process import ServerPolicy
from edgequant.answers.mirrors.llama_server.server import LlamaServer
from edgequant.answers.mirrors.registry import make_mirrors
from edgequant.answers.mirrors.tokenizer import Tokenizer, tokenizers_of
from edgequant.answers.prompts import load_prompt, render
from edgequant.answers.questions import load_questions
from edgequant.build.build import build
from edgequant.core.artefact import Store
from edgequant.models.model_file import ModelFile

REPOSITORY = Path(__file__).parents[1]
QUESTIONS = REPOSITORY / "experiments" / "demo_model" / "questions.jsonl"
BUDGETS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)

# What the other side runs: one task whose documents are the prompts as they are sent.
THEIRS = """
import json, sys, time
from lm_eval import simple_evaluate
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager
folder, url, parallel = sys.argv[1:]
model = LocalCompletionsAPI(
    base_url=url + "/v1/completions", model="m", tokenizer_backend=None,
    tokenized_requests=False, num_concurrent=int(parallel), max_retries=3, batch_size=1,
)
asking = []
generate_until = model.generate_until
def timed(*arguments, **named):
    start = time.monotonic()
    answers = generate_until(*arguments, **named)
    asking.append(time.monotonic() - start)
    return answers
model.generate_until = timed
found = simple_evaluate(
    model, tasks=["prompts"], task_manager=TaskManager(include_path=folder),
    bootstrap_iters=0, log_samples=True,
)
samples = sorted(found["samples"]["prompts"], key=lambda s: s["doc_id"])
print(json.dumps({"seconds": sum(asking), "texts": [s["resps"][0][0] for s in samples]}))
"""
TASK = """
task: prompts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: ""
target_delimiter: ""
generation_kwargs:
  until: ["<|no such text|>"]
  max_gen_toks: {limit}
  temperature: 0
  do_sample: false
metric_list: [{{metric: bypass}}]
"""


def theirs(python: Path, folder: Path, url: str, parallel: int) -> dict[str, Any]:
    """One run of the harness."""
    done = subprocess.run(
        [python, "-c", THEIRS, folder, url, str(parallel)],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "hf")},
        check=False,
    )
    if done.returncode:
        sys.exit(f"the harness failed:\n{done.stderr[-3000:]}")
    value = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(value, dict)
    return value


def ours(model: ModelFile, url: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run of ours, with nothing kept from before."""
    mirrors = make_mirrors("openai", build("host"), urls=[url], parallel=options.parallel)
    questions = load_questions(options.file, options.questions)
    start = time.monotonic()
    answers = generate(
        [model],
        mirrors=mirrors,
        prompts=[load_prompt(options.prompt)],
        questions=questions,
        max_tokens=options.max_tokens,
        store=Store(folder),
    )
    seconds = time.monotonic() - start
    frame = answers.frame()
    cut = time.monotonic()
    for budget in BUDGETS:
        for texts in frame["token_texts"]:
            "".join(texts[:budget])
    return {
        "seconds": seconds,
        "texts": frame["text"].to_list(),
        "cuts": time.monotonic() - cut,
        "tokens": int(frame["token_ids"].map(len).sum()),
    }


def write_task(folder: Path, tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    """The harness's task: the very prompts that we send."""
    prompt = load_prompt(options.prompt)
    with (folder / "prompts.jsonl").open("w", encoding="utf-8") as stream:
        for question in load_questions(options.file, options.questions):
            text = tokenizer.apply_template(render(prompt, question.question))
            stream.write(json.dumps({"prompt": text}) + "\n")
    task = TASK.format(data=folder / "prompts.jsonl", limit=options.max_tokens)
    (folder / "prompts.yaml").write_text(task, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--harness", type=Path, required=True, help="a Python that has lm-eval")
    parser.add_argument("--file", type=Path, default=QUESTIONS, help="questions, GSM8K's form")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--prompt", default="cot")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    model = ModelFile.of_path("model", options.model)
    policy = replace(ServerPolicy(), slots=options.parallel)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        host, log = build("host"), folder / "server.log"
        binary = host.binary("llama-server")
        with tokenizers_of(host)(model) as tokenizer:
            write_task(folder, tokenizer, options)
        with LlamaServer(binary, options.model, policy=policy, log=log) as server:
            runs: list[tuple[dict[str, Any], dict[str, Any]]] = []
            for number in range(options.rounds):
                other = theirs(options.harness, folder, server.url, options.parallel)
                mine = ours(model, server.url, options, folder / f"store-{number}")
                same = sum(a == b for a, b in zip(mine["texts"], other["texts"], strict=True))
                print(
                    f"round {number + 1}: ours {mine['seconds']:.1f} s, "
                    f"lm-eval {other['seconds']:.1f} s, {same} of {len(mine['texts'])} texts same",
                    flush=True,
                )
                runs.append((mine, other))
    count = options.questions
    mine_s, other_s = (statistics.median(run[side]["seconds"] for run in runs) for side in (0, 1))
    cuts = statistics.median(run[0]["cuts"] for run in runs)
    print(f"answers per second: ours {count / mine_s:.2f}, lm-eval {count / other_s:.2f}")
    print(f"ours / lm-eval: {other_s / mine_s:.2f}")
    print(
        f"{len(BUDGETS)} truncate budgets: {(mine_s + cuts) / mine_s:.4f} of one uncapped run "
        f"({runs[0][0]['tokens']} tokens generated either way)"
    )


if __name__ == "__main__":
    main()
