"""What a run folder holds, and how it is read back to draw the report again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgequant.core.artefact import FileRecord, file_records
from edgequant.core.errors import ArtefactError
from edgequant.core.files import write_json
from edgequant.core.schemas import ANSWERS, LATENCY, QUALITY, QUESTIONS
from edgequant.core.tables import read_csv, read_table
from edgequant.core.version import __version__
from edgequant.latency.pace import Pace
from edgequant.matching.curves import TimeMapping
from edgequant.matching.files import read_matched
from edgequant.matching.match import MatchedResult

if TYPE_CHECKING:
    import pandas as pd

MANIFEST_NAME = "manifest.json"
LATENCY_NAME = LATENCY.file
ANSWERS_NAME = ANSWERS.file
QUESTIONS_NAME = QUESTIONS.file
REPORT_NAME = "report.html"
RUN_SCHEMA_VERSION = 3


class _Record(BaseModel):
    # A later edgequant may write more; what this one knows is checked.
    model_config = ConfigDict(extra="allow", frozen=True)


class ExperimentRecord(_Record):
    """The experiment as it was run."""

    name: str
    description: str = ""
    file: str = ""
    """Name of the experiment file, without its folder."""
    sha256: str | None = None
    parameters: dict[str, object] = Field(default_factory=dict)
    """The whole experiment as plain values."""


class ModelRecord(_Record):
    """One quantized model file."""

    quantization: str
    bytes: int
    bits_per_weight: float
    sha256: str
    file: str = ""
    bytes_per_token: int | None = None
    """Weights read for each decoded token."""
    parameters: int | None = None
    tensors: dict[str, int] = Field(default_factory=dict)
    """Type to how many tensors have it, the type with most weights first: what is really held."""
    weight_share: dict[str, float] = Field(default_factory=dict)
    """Type to its share of all weights."""
    holds_named_type: bool = True
    """Whether any tensor has the type that the quantization is called after."""
    same_as: str | None = None
    """The quantization before it that has the very same tensors."""


class BoardRecord(_Record):
    """The board that the latencies were read on."""

    name: str
    kind: str
    latency_source: str
    description: str = ""
    profile: dict[str, object] = Field(default_factory=dict)
    facts: dict[str, object] = Field(default_factory=dict)
    """What was found on the board itself."""


class PromptRecord(_Record):
    """One prompt as the model saw it."""

    name: str
    system: str
    description: str = ""
    sha256: str | None = None


class CompositeRecord(_Record):
    """One variant's composite score against the base, with its parts."""

    quantization: str
    base: str
    score: float
    """0 to 1."""
    accuracy: float
    """Mean over the tasks of its best configuration."""
    compression: float
    """Bytes of the base's file over its own."""
    ttft_speedup: float
    tpot_speedup: float
    tasks: dict[str, float] = Field(default_factory=dict)
    """Task to the share answered right; the only task may be called ""."""


class MatchRecord(_Record):
    """How answers and seconds were joined."""

    mapping: TimeMapping = "seconds"
    grader: str = "exact"
    notes: list[str] = Field(default_factory=list)


class StageRecord(_Record):
    """One stage of the run."""

    name: str
    seconds: float
    place: str = "host"
    """Where it ran: "host", or "board NAME"."""
    key: str = ""
    """Of the artefact that holds its result; "" where nothing is kept."""
    reused: bool = False
    """It was found as it is; nothing was run."""
    timings: dict[str, float] = Field(default_factory=dict)


class RunManifest(_Record):
    """``manifest.json`` of a run folder."""

    schema_version: int = RUN_SCHEMA_VERSION
    created: str
    """ISO 8601, UTC."""
    edgequant_version: str = __version__
    llama_cpp_commit: str | None = None
    experiment: ExperimentRecord
    board: BoardRecord
    models: list[ModelRecord]
    model_notes: list[str] = Field(default_factory=list)
    """What a reader of the quantizations' names would take wrongly."""
    paces: list[Pace]
    """Of every source: what matching was given."""
    inputs: dict[str, str]
    """Name of every input to its SHA-256 (or to a stage's key, or a hub's commit)."""
    prompts: list[PromptRecord] = Field(default_factory=list)
    generation: dict[str, object] = Field(default_factory=dict)
    """How answers were made: sampling, slots, prompt cache, questions, limits."""
    match: MatchRecord = MatchRecord()
    composite: list[CompositeRecord] = Field(default_factory=list)
    """Where the experiment asks for it."""
    tools: dict[str, str] = Field(default_factory=dict)
    """Name to version of what was used: compiler, qemu, python."""
    stages: list[StageRecord] = Field(default_factory=list)
    files: dict[str, FileRecord] = Field(default_factory=dict)
    """The run folder's files."""


@dataclass(frozen=True)
class ReportInputs:
    """All that the report shows.

    Attributes:
        manifest: the run's manifest.
        latency: one row for each load, prefill and token; as ``measure`` writes it.
        answers: as ``generate`` writes them; None leaves the example answers out.
        questions: with the right answers; None leaves them out as well.
        matched: the result of matching.
        quality: of the variants, where it was measured.
    """

    manifest: RunManifest
    latency: pd.DataFrame
    answers: pd.DataFrame | None
    questions: pd.DataFrame | None
    matched: MatchedResult
    quality: pd.DataFrame | None = None


def load_run(folder: Path) -> ReportInputs:
    """Read a run folder.

    Raises:
        ArtefactError: no manifest, an unreadable one, or one of another schema version.
        DataFrameError: a table is missing or malformed.
    """
    manifest = read_run_manifest(folder)
    quality = folder / QUALITY.file
    return ReportInputs(
        manifest=manifest,
        latency=read_table(folder / LATENCY_NAME, LATENCY),
        answers=read_table(folder / ANSWERS_NAME, ANSWERS),
        questions=read_table(folder / QUESTIONS_NAME, QUESTIONS),
        matched=read_matched(
            folder,
            mapping=manifest.match.mapping,
            grader=manifest.match.grader,
            notes=tuple(manifest.match.notes),
        ),
        quality=read_csv(quality, QUALITY) if quality.exists() else None,
    )


def read_run_manifest(folder: Path) -> RunManifest:
    """Read a run folder's manifest.

    Raises:
        ArtefactError: none there, an unreadable one, or one of another schema version.
    """
    path = folder / MANIFEST_NAME
    try:
        manifest = RunManifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtefactError(
            f"no {MANIFEST_NAME} can be read here: {error.strerror}",
            subject=folder,
            next_step="give a folder that edgequant sweep or demo has written",
        ) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise ArtefactError(
            f"is not a run's manifest: {where}: {problem['msg']}", subject=path
        ) from error
    if manifest.schema_version != RUN_SCHEMA_VERSION:
        raise ArtefactError(
            f"schema version {manifest.schema_version}, this edgequant reads {RUN_SCHEMA_VERSION}",
            subject=path,
        )
    return manifest


def refresh_file_records(folder: Path) -> None:
    """Bring the manifest's list of the run folder's files up to date; nothing else changes.

    Raises:
        ArtefactError: no manifest can be read there.
    """
    path = folder / MANIFEST_NAME
    manifest = read_run_manifest(folder)
    write_json(
        path, manifest.model_copy(update={"files": file_records(folder)}).model_dump(mode="json")
    )
