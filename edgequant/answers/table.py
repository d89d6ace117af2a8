"""The artefact "answers": raw tokens in Parquet, never rewritten, graded by a pass of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.core.artefact import Artefact

if TYPE_CHECKING:
    import polars as pl

ANSWERS_NAME = "answers.parquet"


@dataclass(frozen=True)
class Answers:
    """All answers of one experiment."""

    artefact: Artefact

    @property
    def path(self) -> Path:
        """The Parquet file."""
        return self.artefact.file(ANSWERS_NAME)

    def frame(self) -> pl.DataFrame:
        """One row for each quantization, prompt, stated budget and question.

        Columns: quantization, prompt, stated_budget (tokens, null where the prompt does not
        state one), question_id, question_sha256, expected_answer, rendered_prompt, token_ids
        (with the token that ended the answer), token_texts (joined: the text), text,
        stop_reason ("eos" or "limit"), prompt_tokens, max_tokens, prompt_seconds and
        decode_seconds (the mirror's, not the board's), model_sha256, llama_cpp_commit, slots,
        prompt_cache.
        """
        import polars as pl

        return pl.read_parquet(self.path)


def write_answers(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write rows with the columns of :meth:`Answers.frame` as Parquet."""
    import polars as pl

    schema: dict[str, pl.DataType] = {
        "quantization": pl.String(),
        "prompt": pl.String(),
        "stated_budget": pl.Int32(),
        "question_id": pl.String(),
        "question_sha256": pl.String(),
        "expected_answer": pl.Int64(),
        "rendered_prompt": pl.String(),
        "token_ids": pl.List(pl.Int32()),
        "token_texts": pl.List(pl.String()),
        "text": pl.String(),
        "stop_reason": pl.String(),
        "prompt_tokens": pl.Int32(),
        "max_tokens": pl.Int32(),
        "prompt_seconds": pl.Float64(),
        "decode_seconds": pl.Float64(),
        "model_sha256": pl.String(),
        "llama_cpp_commit": pl.String(),
        "slots": pl.Int32(),
        "prompt_cache": pl.Boolean(),
    }
    pl.DataFrame(rows, schema=schema).write_parquet(path)
