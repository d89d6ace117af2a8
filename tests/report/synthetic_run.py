"""A whole run folder's contents, made up but shaped like the demo's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from edgequant.core.schemas import ANSWERS, LATENCY, QUESTIONS
from edgequant.core.tables import write_table
from edgequant.latency.frame import make_frame
from edgequant.latency.pace import Pace
from edgequant.matching.files import write_matched
from edgequant.matching.match import match
from edgequant.report.run import (
    BoardRecord,
    ExperimentRecord,
    MatchRecord,
    ModelRecord,
    PromptRecord,
    ReportInputs,
    RunManifest,
    StageRecord,
)
from tests.matching.synthetic_answers import synthetic_answers

EMULATED = {"Q2_K": 0.0461, "Q3_K_M": 0.0412, "Q4_K_M": 0.0338, "Q8_0": 0.0212}
PREDICTED = {"Q2_K": 0.0016, "Q3_K_M": 0.0017, "Q4_K_M": 0.0018, "Q8_0": 0.0026}
BITS = {"Q2_K": 3.1, "Q3_K_M": 3.9, "Q4_K_M": 4.9, "Q8_0": 8.5}


def paces() -> list[Pace]:
    """Three sources, as in the demo; the study knows two quantizations."""
    return [
        *(
            Pace(q, "emulated", s, s * 0.7, "Median of every token on the virtual board.")
            for q, s in EMULATED.items()
        ),
        *(Pace(q, "predicted", s, s * 0.5, "Roofline for rk3568.") for q, s in PREDICTED.items()),
        Pace("Q2_K", "study", 18.18, 0.0, "Medians of 19 recorded tokens"),
        Pace("Q8_0", "study", 49.73, 0.0, "Medians of 19 recorded tokens"),
    ]


def latency_frame(repeats: int = 3, tokens: int = 64) -> pd.DataFrame:
    """One row for each token; Q3_K_M spreads too wide, one Q4_K_M repeat failed."""
    random = np.random.default_rng(3)
    rows: list[dict[str, object]] = []
    for quantization, middle in EMULATED.items():
        for repeat in range(repeats):
            common: dict[str, object] = {
                "board": "virtual",
                "quantization": quantization,
                "repeat": repeat,
                "failed": False,
                "latency_source": "emulated",
                "prompt_tokens": 121,
                "resident_bytes": int(BITS[quantization] * 1.4e6 + 11e6),
                "model_sha256": "ab" * 32,
            }
            if quantization == "Q4_K_M" and repeat == 2:
                rows.append({**common, "failed": True, "error": "killed by signal 9"})
                continue
            rows.append({**common, "phase": "load", "index": 0, "seconds": 0.31})
            rows.append({**common, "phase": "prefill", "index": 0, "seconds": 121 * middle * 0.7})
            width = 0.3 if quantization == "Q3_K_M" else 0.02
            rows.extend(
                {
                    **common,
                    "phase": "decode",
                    "index": index,
                    "token_id": index,
                    "seconds": float(middle * (1 + random.gamma(2, width / 2))),
                    "major_faults": 0,
                    "minor_faults": 2,
                    "read_bytes": 0,
                }
                for index in range(1, tokens)
            )
    return make_frame(rows)


def report_inputs(questions: int = 200) -> ReportInputs:
    """All that a report shows."""
    answers, gold = synthetic_answers(questions)
    own = paces()
    budgets = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256]
    matched = match(answers, gold, own, budgets)
    manifest = RunManifest(
        created="2024-05-01T12:00:00+00:00",
        llama_cpp_commit="0c1e57098",
        experiment=ExperimentRecord(
            name="demo",
            description="A 6.6 M parameter Llama on the virtual RK3568-class board",
            file="demo.toml",
            sha256="cd" * 32,
            parameters={
                "evaluation": {"limit": questions, "budgets": budgets},
                "what_if": [{"kind": "predicted", "board": "rk3568"}, {"kind": "study"}],
            },
        ),
        board=BoardRecord(
            name="virtual",
            kind="virtual",
            latency_source="emulated",
            description="qemu's virt machine, dressed as an RK3568 board.",
            profile={"cpu": {"cores": 4}, "memory": {"ram_bytes": 2 << 30}},
            facts={"kernel": "6.1.0-cloud-arm64", "isa": ["asimddp", "asimdhp"], "cores": 1},
        ),
        models=[
            ModelRecord(
                quantization=q,
                bytes=int(b * 0.83e6),
                bits_per_weight=b,
                sha256="ef" * 32,
                bytes_per_token=int(b * 0.82e6),
            )
            for q, b in BITS.items()
        ],
        paces=own,
        inputs={"experiment": "cd" * 32, "questions": "12" * 32, "build": "0123456789abcdef"},
        prompts=[PromptRecord(name="cot", system="Follow <this> pattern & \\boxed{}.")],
        generation={"slots": 1, "prompt_cache": False, "questions": questions},
        match=MatchRecord(notes=list(matched.notes)),
        tools={"zig": "0.15.2", "qemu": "7.2"},
        stages=[
            StageRecord(name="build", seconds=412.0, key="0123456789abcdef"),
            StageRecord(name="generate", seconds=95.5, reused=True),
        ],
    )
    return ReportInputs(manifest, latency_frame(), answers, gold, matched)


def write_run_folder(folder: Path, inputs: ReportInputs) -> Path:
    """A run folder with everything but the page and its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    write_matched(folder, inputs.matched)
    assert inputs.answers is not None
    assert inputs.questions is not None
    for table, schema in (
        (inputs.latency, LATENCY),
        (inputs.answers, ANSWERS),
        (inputs.questions, QUESTIONS),
    ):
        write_table(table, folder / schema.file, schema)
    (folder / "manifest.json").write_text(inputs.manifest.model_dump_json(indent=2))
    return folder
