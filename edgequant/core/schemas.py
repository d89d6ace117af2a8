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


_STRATEGY = Column(
    "text", "name of the strategy; after a colon what tells it from others: `stated:0.75`"
)
_QUESTION_ID = Column("text", "place in its file and start of the hash: `0001-1a2b3c4d`")
_CONFIGURATION: dict[str, Column] = {
    "quantization": Column("text", "name of the quantization"),
    "prompt": Column("text", "name of the prompt"),
    "strategy": _STRATEGY,
    "budget_tokens": Column(
        "integer", "budget in tokens that the strategy was given; empty: none", nullable=True
    ),
}
_ACCURACY: dict[str, Column] = {
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
            "integer",
            "budget in tokens that the strategy was given: told, or where it crops; empty: none",
            nullable=True,
        ),
        "question_id": _QUESTION_ID,
        "question_sha256": Column("text", "hex SHA-256 of the question's text"),
        "rendered_prompt": _optional("text", "all that the model was given, as text"),
        "token_ids": Column(
            "integers", "tokens of the answer, with a closing text's and the one that ended it"
        ),
        "token_ids_counted": _optional(
            "flag", "the text was tokenized here: the mirror tells no token ids"
        ),
        "token_texts": Column("texts", "what each token adds to the text"),
        "text": Column("text", "the answer"),
        "closing_start": _optional("integer", "place of a closing text's first token; empty: none"),
        "closing_tokens": _optional("integer", "tokens of the closing text; empty: none"),
        "stop_reason": Column(
            "text", "`eos`: ended by itself; `limit`: cut off; `failed`: the mirror gave up on it"
        ),
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
        "question_id": _QUESTION_ID,
        "question_sha256": Column("text", "hex SHA-256 of the question's text"),
        "question": _optional("text", "the question"),
        "expected_answer": Column("text", "the right answer (gold): `72`, `B`"),
        "answer_kind": _optional("text", "`integer` or `choice` (a letter); empty: `integer`"),
        "task": _optional("text", "name of the task that asks it; empty: the only one"),
        "family": _optional("text", "kind of question, where its file names one"),
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
    rows="one step of a configuration's accuracy: from `seconds` on until its next row",
    columns={
        "latency_source": _SOURCE,
        **_CONFIGURATION,
        "seconds": Column("number", "seconds since the question"),
        **_ACCURACY,
    },
)
BUDGETS = Schema(
    name="accuracy against tokens",
    file="budgets.csv",
    rows="one configuration whose answers are cut at one number of tokens",
    columns={
        "latency_source": _SOURCE,
        **_CONFIGURATION,
        "cut_tokens": Column(
            "integer", "tokens after which each answer is cut; empty: nowhere", nullable=True
        ),
        **_ACCURACY,
        "lenient_accuracy": _optional("number", "share right with or without a box"),
        "qwen_accuracy": _optional("number", "share right as Qwen2.5-Math's harness reads it"),
        "math_verify_accuracy": _optional("number", "share right as math-verify reads the box"),
        "mean_seconds": Column("number", "mean seconds that an answer takes so"),
        "longest_seconds": Column("number", "seconds that the longest takes"),
    },
)
BEST = Schema(
    name="the best choices",
    file="best.csv",
    rows="the best choice within one time limit; cells are empty where nothing answers",
    columns={
        "latency_source": _SOURCE,
        "time_limit_seconds": Column("number", "the time limit in seconds"),
        **{name: Column(c.kind, c.meaning, nullable=True) for name, c in _CONFIGURATION.items()},
        "accuracy": Column(
            "number",
            "share right of choosing so: each question by what was chosen without it",
            nullable=True,
        ),
        "accuracy_low": Column("number", "lower end of its 95 % Wilson interval", nullable=True),
        "accuracy_high": Column("number", "upper end", nullable=True),
        "accuracy_seen": Column(
            "number", "share right of the choice on the questions it was chosen by", nullable=True
        ),
        "n": Column("integer", "questions asked", nullable=True),
        "runner_up": Column("text", "the next best other quantization", nullable=True),
        "difference": Column("number", "how much more is right than with it", nullable=True),
        "difference_low": Column(
            "number", "lower end of its interval, corrected for the number of rows", nullable=True
        ),
        "difference_high": Column("number", "upper end", nullable=True),
        "questions_to_separate": Column(
            "integer", "questions that would tell the two apart", nullable=True
        ),
        "worse": Column("text", "quantizations that are worse beyond chance", nullable=True),
        "not_distinguishable_from": Column(
            "text", "the others: they may be worse, as good or better", nullable=True
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
        "first_ahead_seconds": Column(
            "number", "last time limit at which the first is ahead beyond chance", nullable=True
        ),
        "second_ahead_seconds": Column(
            "number", "first time limit at which the second is", nullable=True
        ),
        "lead_before": Column("number", "largest lead seen before, in accuracy", nullable=True),
        "lead_before_seconds": Column("number", "where it was seen", nullable=True),
        "lead_after": Column("number", "largest lead seen after, in accuracy", nullable=True),
        "lead_after_seconds": Column("number", "where it was seen", nullable=True),
        "confident": Column("flag", "both leads are beyond chance"),
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
        "lenient_accuracy": _optional("number", "share right with or without a box"),
        "qwen_accuracy": _optional("number", "share right as Qwen2.5-Math's harness reads it"),
        "math_verify_accuracy": _optional("number", "share right as math-verify reads the box"),
        "boxed": _optional("number", "share that give an answer in the form asked for"),
        "mean_tokens": Column("number", "mean tokens of an answer"),
        "p10_tokens": Column("number", "tokens that a tenth of the answers keep within"),
        "median_tokens": Column("number", "median"),
        "p90_tokens": Column("number", "tokens that nine tenths keep within"),
        "longest_tokens": Column("integer", "tokens of the longest answer"),
        "cut_off": Column("number", "share cut off by the limit"),
        "looped": Column("number", "share that repeat themselves without end"),
        "failed": Column("number", "share that no mirror answered"),
        "mean_prompt_tokens": Column("number", "mean tokens of a prompt"),
        "longest_prompt_tokens": Column("integer", "tokens of the longest prompt"),
    },
)
TASKS = Schema(
    name="the scores of tasks",
    file="tasks.csv",
    rows="whole answers of one configuration to the questions of one task",
    columns={
        **_CONFIGURATION,
        "task": Column("text", "name of the task; empty: the only one", nullable=True),
        **_ACCURACY,
    },
)
QUALITY = Schema(
    name="the table of quality",
    file="quality.csv",
    rows="one variant on one text, compared with the 16-bit file (docs/quality.md)",
    columns={
        "text": Column("text", "the text's file, or whose answers it is"),
        "quantization": Column("text", "name of the variant"),
        "bytes": Column("integer", "size of the variant's file"),
        "bits_per_weight": Column("number", "mean over all weights"),
        "tokens": Column("integer", "tokens that count"),
        "passages": Column("integer", "windows or answers that they stand in"),
        "perplexity": Column("number", "of the variant"),
        "perplexity_error": _optional("number", "its standard error; empty: one passage"),
        "reference_perplexity": Column("number", "of the 16-bit file"),
        "reference_perplexity_error": _optional("number", "its standard error"),
        "perplexity_ratio": Column("number", "variant over reference"),
        "perplexity_ratio_error": _optional("number", "its standard error, tokens paired"),
        "divergence": Column("number", "mean Kullback-Leibler divergence from the reference, nats"),
        "divergence_error": _optional("number", "its standard error"),
        "median_divergence": Column("number", "median, nats"),
        "p99_divergence": Column("number", "99th percentile, nats"),
        "same_top": Column("number", "share of tokens where both find the same one likeliest"),
        "same_top_error": _optional("number", "its standard error"),
        "on_front": Column("flag", "no other is as small and as near, and better in one"),
        "reference_sha256": Column("text", "hex SHA-256 of the 16-bit GGUF"),
        "model_sha256": Column("text", "hex SHA-256 of the variant's GGUF"),
        "text_sha256": Column("text", "hex SHA-256 of the token ids and of what counts"),
    },
)
ALL = (ANSWERS, QUESTIONS, LATENCY, MATCHED, BUDGETS, BEST, CROSSOVERS, SCORES, TASKS, QUALITY)
