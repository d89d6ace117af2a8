"""The folder a sweep leaves: tables, figures, the page, and a manifest of everything used."""

from __future__ import annotations

import csv
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.core.artefact import file_records
from edgequant.core.errors import FileAccessError
from edgequant.core.fields import WITHOUT_FOLDERS
from edgequant.core.files import copy_whole, partials_of, whole_file, write_json
from edgequant.core.hashing import sha256_file
from edgequant.core.json_file import read_json
from edgequant.core.schemas import ANSWERS, LATENCY, QUALITY, QUESTIONS
from edgequant.experiment.question_files import question_files

if TYPE_CHECKING:
    import pandas as pd

    from edgequant.answers.prompts import Prompt
    from edgequant.answers.table import Answers
    from edgequant.boards.profile import BoardProfile
    from edgequant.build.build import Build
    from edgequant.experiment.file import Experiment
    from edgequant.latency.measure import Latency
    from edgequant.latency.pace import Pace
    from edgequant.matching.match import MatchedResult
    from edgequant.models.model_set import ModelSet
    from edgequant.models.pull.pull import Pulled
    from edgequant.report.run import CompositeRecord, ModelRecord, RunManifest, StageRecord

MANIFEST_NAME = "manifest.json"
LATENCY_NAME = LATENCY.file
ANSWERS_NAME = ANSWERS.file
MODELS_NAME = "models.csv"
MODEL_COLUMNS = (
    "quantization",
    "file",
    "bytes",
    "bits_per_weight",
    "bytes_per_token",
    "parameters",
    "tensors",
    "weight_share",
    "holds_named_type",
    "same_as",
    "sha256",
)


class RunFolder:
    """The run folder. Its manifest is taken away first and put back last: no manifest, no run."""

    def __init__(self, path: Path) -> None:
        """Make the folder and check, before any work, that it may be written.

        Raises:
            FileAccessError: it is a file, cannot be written to, or holds something else than a run.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            # A trial is the only check that also knows of read-only disks.
            tempfile.TemporaryFile(dir=path).close()
        except OSError as error:
            raise FileAccessError(
                f"cannot be written to: {error.strerror}",
                subject=path,
                next_step="give another folder with --out",
            ) from error
        if not self._is_ours() and any(path.iterdir()):
            raise FileAccessError(
                "the folder is not empty and holds no run",
                subject=path,
                next_step="give another folder with --out",
            )

    def _is_ours(self) -> bool:
        latency = self.path / LATENCY_NAME
        if latency.exists() or partials_of(latency):
            return True
        try:
            manifest = read_json(self.path / MANIFEST_NAME)
        except (OSError, ValueError):
            return False
        # Many a project has a manifest.json; ours alone tells of an experiment's latencies.
        return isinstance(manifest, dict) and bool({"paces", "latency_models"} & manifest.keys())

    def write(
        self,
        *,
        experiment: Experiment,
        experiment_path: Path,
        profile: BoardProfile,
        prompts: Sequence[Prompt],
        models: ModelSet,
        builds: Mapping[str, Build],
        answers: Answers,
        questions: pd.DataFrame,
        latency: Latency,
        paces: Sequence[Pace],
        matched: MatchedResult,
        stages: Sequence[StageRecord],
        pulled: Pulled | None = None,
        mirror_check: Mapping[str, object] | None = None,
        quality: pd.DataFrame | None = None,
    ) -> RunManifest:
        """Write everything; the manifest last."""
        from edgequant.core.tables import write_csv, write_table
        from edgequant.matching.files import write_matched
        from edgequant.report.page import FIGURES_FOLDER, write_report
        from edgequant.report.run import (
            BoardRecord,
            ExperimentRecord,
            MatchRecord,
            PromptRecord,
            ReportInputs,
            RunManifest,
        )

        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / MANIFEST_NAME).unlink(missing_ok=True)
        # An earlier run may have had figures that this one does not draw.
        shutil.rmtree(self.path / FIGURES_FOLDER, ignore_errors=True)
        copy_whole(latency.path, self.path / LATENCY_NAME)
        copy_whole(answers.path, self.path / ANSWERS_NAME)
        # With its right answers the folder can be matched again from itself alone.
        write_table(questions, self.path / QUESTIONS.file, QUESTIONS)
        write_matched(self.path, matched)
        (self.path / QUALITY.file).unlink(missing_ok=True)
        if quality is not None:
            write_csv(quality, self.path / QUALITY.file, QUALITY)
        board_facts = latency.artefact.manifest.details.get("board_facts")
        generation = answers.artefact.manifest
        manifest = RunManifest(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            llama_cpp_commit=builds["host"].llama_cpp_commit,
            experiment=ExperimentRecord(
                name=experiment.name,
                description=experiment.description,
                file=experiment_path.name,
                sha256=sha256_file(experiment_path),
                parameters=_without_folders(experiment),
            ),
            board=BoardRecord(
                name=profile.name,
                kind=profile.kind,
                latency_source=profile.latency_source,
                description=profile.description,
                profile=profile.without_address(),
                facts=board_facts if isinstance(board_facts, dict) else {},
            ),
            models=_model_records(models),
            model_notes=models.notes,
            paces=list(paces),
            inputs={
                **_inputs(experiment, experiment_path, models, builds, answers, latency),
                **({} if pulled is None else {f"hub {pulled.request.shown}": pulled.commit}),
            },
            prompts=[
                PromptRecord(
                    name=p.name, system=p.system, description=p.description, sha256=p.sha256
                )
                for p in prompts
            ],
            generation={
                **generation.parameters,
                **generation.details,
                **({} if mirror_check is None else {"mirror_check": dict(mirror_check)}),
            },
            match=MatchRecord(
                mapping=matched.mapping, grader=matched.grader, notes=list(matched.notes)
            ),
            composite=_composites(experiment, models, latency, matched),
            tools=_tools(builds),
            stages=list(stages),
        )
        _write_models(self.path / MODELS_NAME, manifest.models)
        inputs = ReportInputs(manifest, latency.frame, answers.frame(), questions, matched, quality)
        write_report(self.path, inputs)
        manifest = manifest.model_copy(update={"files": file_records(self.path)})
        write_json(self.path / MANIFEST_NAME, manifest.model_dump(mode="json"))
        return manifest


def _composites(
    experiment: Experiment, models: ModelSet, latency: Latency, matched: MatchedResult
) -> list[CompositeRecord]:
    from edgequant.experiment.composite import composite_records

    weights, base = experiment.evaluation.composite, experiment.composite_base
    if weights is None or base is None:
        return []
    return composite_records(weights, base, matched.tasks, models, latency.summaries)


def _write_models(path: Path, models: Sequence[ModelRecord]) -> None:
    """One row for each quantization: its size, and what it really holds."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(MODEL_COLUMNS)
        for model in models:
            values = model.model_dump(mode="json")
            values["tensors"] = ", ".join(f"{n} {kind}" for kind, n in model.tensors.items())
            values["weight_share"] = ", ".join(
                f"{share:g} {kind}" for kind, share in model.weight_share.items()
            )
            writer.writerow([values[name] for name in MODEL_COLUMNS])


def _without_folders(experiment: Experiment) -> dict[str, object]:
    """The experiment as plain values, without the absolute paths of this machine."""
    return experiment.model_dump(mode="json", context=WITHOUT_FOLDERS)


def _model_records(models: ModelSet) -> list[ModelRecord]:
    from edgequant.report.run import ModelRecord

    records = []
    for row in models.table:
        file = row.file
        records.append(
            ModelRecord(
                quantization=file.name,
                bytes=file.bytes,
                bits_per_weight=file.bits_per_weight,
                sha256=file.sha256,
                file=file.path.name,
                bytes_per_token=file.bytes_per_token,
                parameters=file.header.parameter_count,
                tensors=dict(file.contents.tensors),
                weight_share=file.contents.rounded_share,
                holds_named_type=file.contents.holds_named_type,
                same_as=row.same_as,
            )
        )
    return records


def _inputs(
    experiment: Experiment,
    experiment_path: Path,
    models: ModelSet,
    builds: Mapping[str, Build],
    answers: Answers,
    latency: Latency,
) -> dict[str, str]:
    """Every input by its hash: files by SHA-256, stages by the keys that find them again."""
    found = {
        f"experiment {experiment_path.name}": sha256_file(experiment_path),
        **{
            f"questions {name}": sha256_file(path)
            for name, path in question_files(experiment.evaluation).items()
        },
        "llama.cpp source": builds["host"].source.sha256,
        "stage answers": answers.artefact.key,
        "stage latency": latency.artefact.key,
    }
    if models.base is not None and models.base.artefact is not None:
        found["stage models (16-bit)"] = models.base.artefact.key
    for name, value in models.inputs.items():
        found[f"model {name}"] = value
    for file in models:
        found[f"GGUF {file.name}"] = file.sha256
    for role, build in builds.items():
        for binary, record in build.artefact.manifest.files.items():
            if binary.startswith("bin/"):
                found[f"{role} binary {binary.removeprefix('bin/')}"] = record.sha256
    return found


def _tools(builds: Mapping[str, Build]) -> dict[str, str]:
    tools = {"python": platform.python_version(), "system": sys.platform}
    for role, build in builds.items():
        compiler = build.artefact.manifest.details.get("compiler")
        if isinstance(compiler, Mapping):
            tools[f"{role} compiler"] = f"{compiler.get('name')} {compiler.get('version')}"
    return tools
