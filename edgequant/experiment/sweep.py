"""The whole line for one experiment; each stage is found again where its inputs are the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.core.artefact import Store
from edgequant.core.disk import disk_full_explained
from edgequant.core.progress import say
from edgequant.experiment.executors.local import LocalExecutor
from edgequant.experiment.file import Experiment
from edgequant.experiment.graph import Executor, Planned, StageRun, plan
from edgequant.experiment.inputs import Inputs, read_inputs
from edgequant.experiment.line import Line, draw_line
from edgequant.experiment.run_folder import RunFolder

if TYPE_CHECKING:
    from edgequant.matching.match import MatchedResult
    from edgequant.report.run import RunManifest, StageRecord


@dataclass(frozen=True)
class SweepResult:
    """What a sweep leaves behind."""

    folder: Path
    manifest: RunManifest
    matched: MatchedResult

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def as_dict(self) -> dict[str, object]:
        """Plain values, for ``--json``."""
        from edgequant.core.tables import records
        from edgequant.report.words import nothing_right

        return {
            "folder": str(self.folder),
            "report": str(self.report),
            "stages": [stage.model_dump(mode="json") for stage in self.manifest.stages],
            "best": records(self.matched.best),
            "crossovers": records(self.matched.crossovers),
            "nothing_right": nothing_right(self.matched.scores, self.matched.matched),
            "composite": [record.model_dump(mode="json") for record in self.manifest.composite],
            "models": [model.model_dump(mode="json") for model in self.manifest.models],
            "notes": [*self.matched.notes, *self.manifest.model_notes],
        }


def sweep(
    experiment: Experiment,
    path: Path,
    out: Path,
    *,
    store: Store | None = None,
    executor: Executor | None = None,
) -> SweepResult:
    """Walk the whole line for one experiment.

    Args:
        experiment: what to do; its relative paths made absolute.
        path: the file it was read from.
        out: the run folder; one that this function wrote before is written anew.
        store: where artefacts are kept, by default the cache.
        executor: walks the graph, by default on this machine.

    Raises:
        EdgequantError: of the class of whatever went wrong; every finished stage is kept.
    """
    store = store if store is not None else Store()
    inputs = read_inputs(experiment)
    folder = RunFolder(out)
    line = draw_line(experiment, inputs, store)
    runs = (executor if executor is not None else LocalExecutor()).run(line.graph)
    say("Draw the report")
    with disk_full_explained(out):
        return _written(folder, experiment, path, inputs, line, runs)


def plan_sweep(experiment: Experiment, *, store: Store | None = None) -> list[Planned]:
    """Which stages of an experiment would run and which are found; nothing is run.

    Args:
        experiment: what to do; its relative paths made absolute.
        store: where artefacts are kept, by default the cache.

    Raises:
        EdgequantError: the experiment names what is not there.
    """
    store = store if store is not None else Store()
    return plan(draw_line(experiment, read_inputs(experiment), store).graph)


def _written(
    folder: RunFolder,
    experiment: Experiment,
    path: Path,
    inputs: Inputs,
    line: Line,
    runs: Sequence[StageRun],
) -> SweepResult:
    from edgequant.answers.table import questions_table

    values = {run.stage.name: run.outcome.value for run in runs}
    matched: MatchedResult = values[line.matched.name]
    manifest = folder.write(
        experiment=experiment,
        experiment_path=path,
        profile=inputs.profile,
        prompts=inputs.prompts,
        models=values[line.models.name],
        builds={"host": values[line.host.name], "board": values[line.board_build.name]},
        answers=values[line.answers.name],
        questions=questions_table(inputs.questions),
        latency=values[line.latency.name],
        paces=values[line.paces.name],
        matched=matched,
        pulled=None if line.pulled is None else values[line.pulled.name],
        quality=None if line.quality is None else values[line.quality.name],
        mirror_check=None if line.mirror_check is None else values[line.mirror_check.name].result,
        stages=[_record(run) for run in runs],
    )
    return SweepResult(folder.path, manifest, matched)


def _record(run: StageRun) -> StageRecord:
    from edgequant.report.run import StageRecord

    return StageRecord(
        name=run.stage.title,
        place=run.stage.place,
        seconds=run.seconds,
        key=run.outcome.key,
        reused=run.outcome.reused and bool(run.outcome.key),
        timings=dict(run.outcome.timings),
    )
