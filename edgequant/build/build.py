"""Build llama.cpp's tools and the probe for a target, once, and find them again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgequant.build.bill.sbom import Bill, write_sbom
from edgequant.build.plan import Plan, choose_tools
from edgequant.build.recipe import LIBRARY
from edgequant.build.source.lock import load_lock
from edgequant.build.source.tree import SourceTree, fetch_source, is_fetched, local_source
from edgequant.build.targets.target import Target, load_target
from edgequant.build.ways.compilers import Zig
from edgequant.build.ways.compilers.packages import package_folder
from edgequant.build.ways.way import Compiled, Way, make_way
from edgequant.core.artefact import MANIFEST_NAME, Artefact, ArtefactDraft, Store
from edgequant.core.disk import filled_up, no_space_left, require_space
from edgequant.core.errors import BuildError
from edgequant.core.files import write_json
from edgequant.core.hashing import sha256_file
from edgequant.core.locks import exclusive
from edgequant.core.progress import say

if TYPE_CHECKING:
    from edgequant.build.proof.trial import TrialReport

NEEDED_BYTES = 2_000_000_000
# A compiler that met a full disk leaves about as much or less.
FULL_BYTES = 50_000_000


@dataclass(frozen=True)
class Build:
    """Binaries of one target, whole and verified."""

    artefact: Artefact
    target: Target
    source: SourceTree

    @property
    def reused(self) -> bool:
        """It was found as it is; nothing was compiled."""
        return self.artefact.reused

    @property
    def key(self) -> str:
        return self.artefact.key

    @property
    def llama_cpp_commit(self) -> str:
        return self.source.commit

    @property
    def binaries(self) -> dict[str, Path]:
        """Name to path of everything that was built."""
        return {
            name.removeprefix("bin/"): self.artefact.folder / name
            for name in self.artefact.manifest.files
            if name.startswith("bin/")
        }

    def binary(self, name: str) -> Path:
        """Path of one binary.

        Raises:
            BuildError: this build does not have it.
        """
        binaries = self.binaries
        if name not in binaries:
            raise BuildError(
                f"has no {name}; it has {', '.join(sorted(binaries))}",
                subject=self.artefact.folder,
                next_step=f"edgequant build --target {self.target.name} --tool {name}",
            )
        return binaries[name]

    @property
    def library(self) -> Path:
        """The shared libllama that a host build has (for ``LLAMA_CPP_LIB_PATH``)."""
        return self.binary(LIBRARY)


def build(
    target: str,
    *,
    tools: Sequence[str] | None = None,
    source: Path | None = None,
    store: Store | None = None,
    way: str = Zig.name,
) -> Build:
    """Build a target's binaries, or find them already built from the very same inputs.

    Args:
        target: name of a target, or of a board that says which one it needs.
        tools: names of llama.cpp's programs and ``edgequant-probe``; by default the target's.
        source: another llama.cpp than the pinned one: a checkout or a tarball.
        store: where artefacts are kept, by default the cache.
        way: ``zig``, ``gcc`` or ``container``.

    Raises:
        TargetError: no such target or way, or the way cannot build for the target.
        SourceError: the source cannot be had, or is not what it should be.
        ToolMissingError: a build package is missing.
        BuildError: configuring or compiling failed.
        AuditError: a binary is not what the target needs.
        DiskFullError: the disk is full.
    """
    store = store if store is not None else Store()
    wanted = _Wanted.of(target, tools, source=source, store=store, way=way)
    plan = wanted.plan(wanted.names)
    found = wanted.find()
    if found is not None:
        return Build(_tried(found, plan, store), plan.target, plan.source)
    package_folder("elftools")
    waiting = "Another edgequant compiles in the same folder; waiting for it"
    with exclusive(plan.folder / "lock", waiting):
        require_space(plan.folder, NEEDED_BYTES, "a build")
        made = store.get_or_make(plan.recipe, lambda draft: _make(plan, wanted.way, draft))
    return Build(made, plan.target, plan.source)


def find_build(
    target: str, *, tools: Sequence[str] | None = None, store: Store | None = None
) -> Build | None:
    """What :func:`build` would return, where it is there; nothing is fetched or compiled."""
    if not is_fetched(load_lock()):
        return None
    store = store if store is not None else Store()
    wanted = _Wanted.of(target, tools, source=None, store=store, way=Zig.name)
    found = wanted.find()
    return None if found is None else Build(found, wanted.target, wanted.tree)


@dataclass(frozen=True)
class _Wanted:
    """What is to be built, before anybody knows whether it is there."""

    target: Target
    tree: SourceTree
    names: tuple[str, ...]
    way: Way
    flags: list[str]
    store: Store

    @classmethod
    def of(
        cls,
        target: str,
        tools: Sequence[str] | None,
        *,
        source: Path | None,
        store: Store,
        way: str,
    ) -> _Wanted:
        chosen = load_target(target)
        builder = make_way(way)
        flags = builder.flags(chosen)
        names = choose_tools(chosen, tools or ())
        # Cheap mistakes first: a container's identity may need an image to be made.
        tree = (
            local_source(source, names) if source is not None else fetch_source(load_lock(), names)
        )
        return cls(chosen, tree, names, builder, flags, store)

    def plan(self, names: tuple[str, ...]) -> Plan:
        return Plan(
            self.target,
            self.tree,
            names,
            identity=self.way.identity(self.target),
            flags=self.flags,
            trees=self.store.cache / "build-trees",
        )

    def find(self) -> Artefact | None:
        """The very build, or the target's usual one where it has all that is asked for."""
        found = self.store.find(self.plan(self.names).recipe)
        usual = choose_tools(self.target, ())
        if found is None and set(self.names) < set(usual):
            found = self.store.find(self.plan(usual).recipe)
        return found


def _make(plan: Plan, way: Way, draft: ArtefactDraft) -> None:
    plan.log.unlink(missing_ok=True)
    _trial_log(plan).unlink(missing_ok=True)
    draft.manifest.details |= {
        "way": way.name,
        "compiler": plan.identity,
        "flags": plan.flags,
        "cmake_options": plan.options,
        "isa": list(plan.target.isa),
    }
    try:
        compiled = way.make(plan, draft)
    except BuildError as error:
        if filled_up(error, plan.folder, below_bytes=FULL_BYTES):
            raise no_space_left(plan.folder, "compiling") from None
        raise
    _keep(plan, compiled, draft)
    shutil.copyfile(plan.log, draft.folder / "build.log")


def _keep(plan: Plan, compiled: Compiled, draft: ArtefactDraft) -> None:
    """Audit what was built, copy it into the artefact, try it, and write down what is in it."""
    from edgequant.build.proof.audit import audit, code_facts

    folder = draft.folder / "bin"
    folder.mkdir()
    static = plan.target.linkage == "static"
    details = draft.manifest.details
    with draft.timed("audit"):
        facts: dict[str, object] = {}
        for name in plan.outputs:
            built = compiled.folder / name
            found = audit(
                built,
                architecture=plan.architecture,
                static=static,
                folders=(plan.folder, plan.source.folder),
            )
            of_code = {} if plan.target.is_host else code_facts(built, plan.target.isa)
            facts[name] = {**found.as_dict(), **of_code}
            shutil.copy2(built, folder / name)
        details["audit"] = facts
    if not plan.target.is_host:
        with draft.timed("trial"):
            report = _try(plan, folder)
        if report.not_run is not None:
            say(f"The binaries were not tried: {report.not_run}")
        details["trial"] = report.as_dict()
    bill = _write_bill(plan, compiled, draft.folder)
    details["licence_texts_missing"] = list(bill.missing)


def _try(plan: Plan, folder: Path) -> TrialReport:
    from edgequant.build.proof.trial import try_binaries

    binaries = {name: folder / name for name in plan.outputs}
    return try_binaries(binaries, target=plan.target, log=_trial_log(plan))


def _tried(found: Artefact, plan: Plan, store: Store) -> Artefact:
    """A build as it is, tried now if it could not be when it was made.

    Raises:
        AuditError: a program is not what the target needs.
    """
    from edgequant.build.proof.trial import find_emulator

    if not _to_be_tried(found, plan) or find_emulator() is None:
        return found
    with store.lock(plan.recipe):
        found = store.find(plan.recipe) or found
        if _to_be_tried(found, plan):
            found.manifest.details["trial"] = _try(plan, found.folder / "bin").as_dict()
            write_json(found.folder / MANIFEST_NAME, found.manifest.model_dump(mode="json"))
    return found


def _to_be_tried(found: Artefact, plan: Plan) -> bool:
    trial = found.manifest.details.get("trial")
    could = not plan.target.is_host and plan.target.qemu.cpu is not None
    return could and isinstance(trial, dict) and not trial.get("ran")


def _trial_log(plan: Plan) -> Path:
    return plan.folder / "trial.log"


def _write_bill(plan: Plan, compiled: Compiled, folder: Path) -> Bill:
    return write_sbom(
        folder,
        target=plan.target,
        source=plan.source,
        compiler={**plan.identity, **compiled.compiler},
        flags=plan.flags,
        cmake_options=plan.options,
        binaries={name: sha256_file(folder / "bin" / name) for name in plan.outputs},
        files=compiled.files,
        project_sha256=plan.inputs["project"],
        lock=load_lock(),
        zig=package_folder("ziglang") if plan.identity["name"] == Zig.name else None,
    )
