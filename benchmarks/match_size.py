"""How the time and memory of ``match`` grow with the number of answers. Generated answers.

    python -m benchmarks.match_size --answers 6595 13190 26380

Each size runs in a process of its own, whose peak memory is told; 1,319 questions, 600 tokens an
answer, a box at the end and one that is overwritten in a tenth of them.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

QUESTIONS = 1319
TOKENS = 600


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, nargs="+", default=[6595, 13190, 26380])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.one))
        return
    for size in options.answers:
        command = [sys.executable, "-m", "benchmarks.match_size", "--one", str(size)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def measure(size: int) -> str:
    """Match ``size`` answers; what it took, in words."""
    from edgequant.latency.pace import Pace
    from edgequant.matching.match import match

    configurations = max(size // QUESTIONS, 1)
    answers, questions = tables(configurations)
    before = peak_bytes()
    started = time.perf_counter()
    paces = [Pace(f"Q{n}", "measured", 1.0 + 0.1 * n, 0.05) for n in range(configurations)]
    match(answers, questions, paces)
    seconds = time.perf_counter() - started
    return (
        f"{configurations * QUESTIONS} answers: {seconds:.1f} s, "
        f"{seconds / configurations / QUESTIONS * 1e3:.2f} ms an answer, peak memory "
        f"{peak_bytes() / 1e6:.0f} MB, of which {before / 1e6:.0f} MB before it began"
    )


def peak_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def tables(configurations: int):  # type: ignore[no-untyped-def]
    """Answers of some configurations to all questions, and the questions."""
    import pandas as pd

    from edgequant.core.schemas import ANSWERS
    from edgequant.core.schemas import QUESTIONS as QUESTIONS_SCHEMA
    from edgequant.core.tables import make_table

    random = np.random.default_rng(1)
    ids = [f"{n:04d}" for n in range(QUESTIONS)]
    hashes = [f"{n:064x}" for n in range(QUESTIONS)]
    questions = make_table(
        (
            {"question_id": i, "question_sha256": h, "expected_answer": str(n)}
            for n, (i, h) in enumerate(zip(ids, hashes, strict=True))
        ),
        QUESTIONS_SCHEMA,
    )
    words = [" so", " we", " have", " 12", " +", " 7", " =", " 19", " apples", ".", "\n"]
    frames = []
    for place in range(configurations):
        rows = []
        for n, (i, h) in enumerate(zip(ids, hashes, strict=True)):
            right = random.random() < 0.5 + 0.4 * place / configurations
            early = ["\\boxed{", "5", "}"] if random.random() < 0.1 else []
            value = str(n if right else n + 1)
            drawn = random.integers(0, len(words), TOKENS - 3 - len(early))
            pieces = [*early, *(words[w] for w in drawn), "\\boxed{", value, "}"]
            rows.append(
                {
                    "quantization": f"Q{place}",
                    "prompt": "cot",
                    "strategy": "truncate",
                    "budget_tokens": None,
                    "question_id": i,
                    "question_sha256": h,
                    "token_ids": random.integers(0, 50_000, len(pieces)).tolist(),
                    "token_texts": pieces,
                    "text": "".join(pieces),
                    "stop_reason": "eos",
                    "prompt_tokens": 100 + n % 60,
                }
            )
        frames.append(make_table(rows, ANSWERS))
    return pd.concat(frames, ignore_index=True), questions


if __name__ == "__main__":
    main()
