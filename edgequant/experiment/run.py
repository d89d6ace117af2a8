"""A finished run as Python sees it: its manifest, and its tables as pandas frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.report.run import (
    ANSWERS_NAME,
    LATENCY_NAME,
    QUESTIONS_NAME,
    RunManifest,
    read_run_manifest,
)

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.matching.match import MatchedResult


@dataclass(frozen=True)
class Run:
    """A run folder; each table is read when it is first asked for.

    What the columns of the tables mean stands in ``docs/tables.md``.
    """

    folder: Path
    manifest: RunManifest

    @cached_property
    def answers(self) -> pd.DataFrame:
        """One row for each answer: raw, ungraded."""
        from edgequant.core.schemas import ANSWERS
        from edgequant.core.tables import read_table

        return read_table(self.folder / ANSWERS_NAME, ANSWERS)

    @cached_property
    def questions(self) -> pd.DataFrame:
        """One row for each question, with its right answer."""
        from edgequant.core.schemas import QUESTIONS
        from edgequant.core.tables import read_table

        return read_table(self.folder / QUESTIONS_NAME, QUESTIONS)

    @cached_property
    def latency(self) -> pd.DataFrame:
        """One row for each load, prefill and decoded token of each run on the board."""
        from edgequant.latency.frame import read_latency

        return read_latency(self.folder / LATENCY_NAME)

    @property
    def matched(self) -> pd.DataFrame:
        """Accuracy against seconds: every step of every configuration."""
        return self._matched.matched

    @property
    def budgets(self) -> pd.DataFrame:
        """Accuracy against tokens: the same answers, cut."""
        return self._matched.budgets

    @property
    def best(self) -> pd.DataFrame:
        """The best choice within each time limit."""
        return self._matched.best

    @property
    def crossovers(self) -> pd.DataFrame:
        """Where one quantization overtakes another."""
        return self._matched.crossovers

    @property
    def scores(self) -> pd.DataFrame:
        """Accuracy of whole answers, and the tokens they take."""
        return self._matched.scores

    @property
    def tasks(self) -> pd.DataFrame:
        """The same, task by task."""
        return self._matched.tasks

    @cached_property
    def _matched(self) -> MatchedResult:
        from edgequant.matching.files import read_matched

        match = self.manifest.match
        return read_matched(
            self.folder, mapping=match.mapping, grader=match.grader, notes=tuple(match.notes)
        )


def load_run(folder: Path | str) -> Run:
    """A run folder that ``sweep`` or ``demo`` wrote.

    Raises:
        ArtefactError: no manifest, an unreadable one, or one of another schema version.
    """
    path = Path(folder)
    return Run(path, read_run_manifest(path))
