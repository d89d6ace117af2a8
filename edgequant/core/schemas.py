"""What every result table holds: each column's kind, meaning and unit.

``docs/tables.md`` says the same for people; a test keeps the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number", "flag", "integers", "texts"]

KIND_WORDS: Mapping[Kind, str] = {
    "text": "text",
    "integer": "whole numbers",
    "number": "numbers",
    "flag": "true or false",
    "integers": "lists of whole numbers",
    "texts": "lists of text",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        kind: of its cells.
        meaning: in words, with the unit.
        nullable: cells may be empty (null).
        required: a table without the column is refused; otherwise it is read as empty.
    """

    kind: Kind
    meaning: str
    nullable: bool = False
    required: bool = True


@dataclass(frozen=True)
class Schema:
    """One table.

    Attributes:
        name: as messages call it: "the answers".
        file: its name in a run folder.
        rows: what a row stands for.
        columns: in their order.
    """

    name: str
    file: str
    rows: str
    columns: Mapping[str, Column]


def _optional(kind: Kind, meaning: str) -> Column:
    return Column(kind, meaning, nullable=True, required=False)


_STRATEGY = Column("text", "`truncate` or `stated`, or the name of a strategy of your own")
_CHOICE: dict[str, Column] = {
    "quantization": Column("text", "name of the quantization"),
    "prompt": Column("text", "name of the prompt"),
    "strategy": _STRATEGY,
    "budget_tokens": Column("integer", "budget in tokens; empty: no limit", nullable=True),
    "seconds": Column("number", "seconds that the choice takes"),
    "accuracy": Column("number", "share answered right, 0 to 1"),
    "accuracy_low": Column("number", "lower end of its 95 % Wilson interval"),
    "accuracy_high": Column("number", "upper end"),
    "n": Column("integer", "questions asked"),
}
_SOURCE = Column("text", "`measured`, `emulated`, `predicted` or `study`")

ANSWERS = Schema(
    name="the answers",
    file="answers.parquet",
    rows="one answer of one quantization to one question",
    columns={
        "quantization": Column("text", "name of the quantization"),
        "prompt": Column("text", "name of the prompt"),
        "strategy": _STRATEGY,
        "budget_tokens": Column(
            "integer", "budget in tokens that the model was told; empty: none", nullable=True
        ),
        "question_id": Column("text", "line number and start of the hash: `0001-1a2b3c4d`"),
        "question_sha256": Column("text", "hex SHA-256 of the question's text"),
        "rendered_prompt": _optional("text", "all that the model was given, as text"),
        "token_ids": Column("integers", "generated tokens, with the one that ended the answer"),
        "token_texts": Column("texts", "what each token adds to the text"),
        "text": Column("text", "the answer"),
        "stop_reason": Column("text", "`eos`: ended by itself; `limit`: cut off"),
        "prompt_tokens": Column("integer", "tokens of the prompt"),
        "max_tokens": _optional("integer", "tokens after which it was cut off"),
        "prompt_seconds": _optional("number", "the mirror's seconds for the prompt"),
        "decode_seconds": _optional("number", "the mirror's seconds for the answer"),
        "model_sha256": _optional("text", "hex SHA-256 of the GGUF"),
        "llama_cpp_commit": _optional("text", "commit that the mirror was built from"),
        "slots": _optional("integer", "answers that one mirror gave at once"),
        "prompt_cache": _optional("flag", "the mirror kept prompts between answers"),
    },
)
QUESTIONS = Schema(
    name="the questions",
    file="questions.parquet",
    rows="one question with its right answer",
    columns={
        "question_id": Column("text", "line number and start of the hash: `0001-1a2b3c4d`"),
        "question_sha256": Column("text", "hex SHA-256 of the question's text"),
        "question": _optional("text", "the question"),
        "expected_answer": Column("integer", "the right answer (gold)"),
    },
)
LATENCY = Schema(
    name="the latency table",
    file="latency.parquet",
    rows="one load, prefill or decoded token of one run; a failed run is one row",
    columns={
        "board": _optional("text", "name of the board"),
        "quantization": Column("text", "name of the quantization"),
        "repeat": _optional(
            "integer", "number of the run; those with prompts of other lengths come last"
        ),
        "phase": Column("text", "`load`, `prefill` or `decode`; empty: failed", nullable=True),
        "index": _optional("integer", "0 for load and prefill; decoded tokens from 1 on"),
        "token_id": _optional("integer", "the token"),
        "piece": _optional("text", "the token's text"),
        "seconds": Column("number", "seconds of the step; empty: failed", nullable=True),
        "prompt_tokens": _optional("integer", "tokens of the run's prompt"),
        "major_faults": _optional("integer", "page faults that read from storage"),
        "minor_faults": _optional("integer", "page faults served from memory"),
        "read_bytes": _optional("integer", "bytes read from storage"),
        "resident_bytes": _optional("integer", "bytes of memory in use"),
        "frequency_hz": _optional("integer", "clock of the first core in Hz"),
        "temperature_celsius": _optional("number", "hottest sensor in °C"),
        "failed": _optional("flag", "the run failed; empty counts as false"),
        "error": _optional("text", "why it failed"),
        "model_sha256": _optional("text", "hex SHA-256 of the GGUF"),
        "latency_source": _optional("text", _SOURCE.meaning),
    },
)
MATCHED = Schema(
    name="accuracy against seconds",
    file="matched.csv",
    rows="one quantization, prompt, strategy and budget under one latency source",
    columns={**_CHOICE, "latency_source": _SOURCE},
)
BEST = Schema(
    name="the best choices",
    file="best.csv",
    rows="the best choice within one time limit; cells are empty where nothing answers",
    columns={
        "latency_source": _SOURCE,
        "time_limit_seconds": Column("number", "the time limit in seconds"),
        **{name: Column(c.kind, c.meaning, nullable=True) for name, c in _CHOICE.items()},
        "not_distinguishable_from": Column(
            "text",
            "quantizations whose own best choice is as good (exact McNemar, p >= 0.05)",
            nullable=True,
        ),
    },
)
CROSSOVERS = Schema(
    name="the crossovers",
    file="crossovers.csv",
    rows="one change of lead between two quantizations",
    columns={
        "latency_source": _SOURCE,
        "prompt": Column("text", "name of the prompt; `any`: the best over all"),
        "strategy": Column("text", "its strategy; empty: the best over all", nullable=True),
        "first_quantization": Column("text", "ahead before"),
        "second_quantization": Column("text", "ahead after"),
        "seconds": Column("number", "from here on the second leads; empty: chance", nullable=True),
        "seconds_low": Column("number", "lower end of its 95 % interval", nullable=True),
        "seconds_high": Column("number", "upper end", nullable=True),
        "lead_before": Column("number", "largest lead before, in accuracy", nullable=True),
        "lead_after": Column("number", "largest lead after", nullable=True),
        "confident": Column("flag", "both leads are beyond chance"),
        "sign_changes": Column("integer", "all changes of lead, chance or not"),
    },
)
SCORES = Schema(
    name="the scores",
    file="scores.csv",
    rows="whole answers of one quantization, prompt, strategy and told budget",
    columns={
        "quantization": Column("text", "name of the quantization"),
        "prompt": Column("text", "name of the prompt"),
        "strategy": _STRATEGY,
        "budget_tokens": Column(
            "integer", "budget in tokens that the model was told; empty: none", nullable=True
        ),
        "n": Column("integer", "questions asked"),
        "accuracy": Column("number", "share answered right, by the box, 0 to 1"),
        "accuracy_low": Column("number", "lower end of its 95 % Wilson interval"),
        "accuracy_high": Column("number", "upper end"),
        "lenient_accuracy": Column("number", "share right with or without a box"),
        "boxed": _optional("number", "share with a whole box, whatever it holds"),
        "mean_tokens": Column("number", "mean tokens of an answer"),
        "median_tokens": Column("number", "median"),
        "longest_tokens": Column("integer", "tokens of the longest answer"),
        "cut_off": Column("number", "share cut off by the limit"),
        "mean_prompt_tokens": Column("number", "mean tokens of a prompt"),
    },
)
ALL = (ANSWERS, QUESTIONS, LATENCY, MATCHED, BEST, CROSSOVERS, SCORES)
