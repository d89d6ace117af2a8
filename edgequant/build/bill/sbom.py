"""The bill of materials of a build: CycloneDX 1.6 in ``sbom.json``, and the licences' texts.

Nothing in it depends on when or where it was written, so that equal builds have equal bills.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgequant.build.bill.linked import (
    GCC_RUNTIME,
    GGML,
    GLIBC,
    LLAMA_CPP,
    PUBLIC_DOMAIN,
    ZIG_RUNTIME,
    Part,
    copyright_lines,
    licence_text,
    own_licence,
    part_version,
    parts_of,
    runtime_parts,
)
from edgequant.build.source.lock import SourceLock
from edgequant.build.source.requirements import PROBE
from edgequant.build.source.tree import SourceTree
from edgequant.build.targets.target import Target
from edgequant.build.ways.way import CONTAINER
from edgequant.core.errors import ArtefactError
from edgequant.core.hashing import sha256_json
from edgequant.core.json_file import read_json
from edgequant.core.version import __version__

SBOM_NAME = "sbom.json"
LICENCES_NAME = "licenses"
SPEC_VERSION = "1.6"
PREFIX = "edgequant"
PROGRAM = "program:"
UNKNOWN_LICENCE = "not known"


@dataclass(frozen=True)
class Bill:
    """What was written."""

    path: Path
    texts: tuple[Path, ...]
    missing: tuple[str, ...]
    """Names of parts whose licence text is not to be found on this machine."""


@dataclass(frozen=True)
class BillRow:
    """One line of the bill for people."""

    component: str
    version: str
    licence: str
    linked_into: str
    """Names of programs, or ``all``."""


@dataclass(frozen=True)
class _Entry:
    """A part as it is in this build."""

    part: Part
    version: str | None
    programs: tuple[str, ...]
    texts: Mapping[str, str]
    """Name of a file to write to its text."""


def write_sbom(
    folder: Path,
    *,
    target: Target,
    source: SourceTree,
    compiler: Mapping[str, str],
    flags: Sequence[str],
    cmake_options: Mapping[str, str],
    binaries: Mapping[str, str],
    files: Mapping[str, set[str]] | None,
    project_sha256: str,
    lock: SourceLock | None = None,
    zig: Path | None = None,
    system: Path = Path("/"),
) -> Bill:
    """Write ``sbom.json`` and ``licenses/`` into a build's folder.

    Args:
        folder: of the build; it exists.
        target: what was built for.
        source: the llama.cpp that was built.
        compiler: name, version and whatever else identifies it.
        flags: what the compiler was told to choose the target.
        cmake_options: all that CMake was told and that decides what the binaries are.
        binaries: name of each to its SHA-256.
        files: of :func:`edgequant.build.bill.linked.files_of_programs`; None where nobody can
            tell, then every part of the tree is named for every program, and the bill says so.
        project_sha256: of our own CMake files and the probe.
        lock: the pin, if the source came from it.
        zig: folder of the ``ziglang`` package, for a build with zig.
        system: root that the licences of gcc's libraries are looked for below.

    Returns:
        What was written, and whose licence text was not found.

    Raises:
        OSError: it cannot be written.
    """
    programs = tuple(sorted(binaries))
    entries = _entries(target, source, compiler, programs, files, zig, system)
    missing = tuple(entry.part.name for entry in entries if entry.part.licence and not entry.texts)
    texts = folder / LICENCES_NAME
    texts.mkdir(exist_ok=True)
    written: list[Path] = []
    for entry in entries:
        for name, text in entry.texts.items():
            (texts / name).write_text(text, encoding="utf-8")
            written.append(texts / name)
    own: list[dict[str, object]] = []
    if PROBE in binaries:
        own_text = own_licence()
        if own_text is None:
            missing = (*missing, PROBE)
        else:
            written.append(texts / f"{PREFIX}.txt")
            written[-1].write_text(own_text, encoding="utf-8")
        own = [_own_component(project_sha256, own_text is not None)]
    components = [
        *own,
        *(_component(entry, source, lock) for entry in entries),
        *(_program(name, binaries[name]) for name in programs),
    ]
    document: dict[str, object] = {
        "metadata": _metadata(target, source, compiler, flags, cmake_options, files is not None),
        "components": components,
        "dependencies": _dependencies(entries, programs),
    }
    # The same content has the same number; another build never has it.
    number = uuid.uuid5(uuid.NAMESPACE_OID, sha256_json(document))
    head: dict[str, object] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
    }
    path = folder / SBOM_NAME
    path.write_text(
        json.dumps({**head, **document}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return Bill(path, tuple(sorted(set(written))), missing)


def bill_table(path: Path) -> list[BillRow]:
    """The rows of a bill for people: what is inside the programs, under which licence.

    Args:
        path: an ``sbom.json``.

    Raises:
        ArtefactError: it is missing, or not a bill.
    """
    try:
        document = read_json(path)
        components = document["components"]
        made = [c for c in components if c["bom-ref"].startswith(PROGRAM)]
        programs = {c["name"] for c in made}
        rows = [_row(c, programs) for c in components if c not in made]
    except FileNotFoundError:
        raise ArtefactError("this build has no bill of materials", subject=path) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"is no bill of materials: {error}", subject=path) from error
    return rows


def _row(component: Mapping[str, object], programs: set[str]) -> BillRow:
    properties = component.get("properties")
    into: list[str] = []
    if isinstance(properties, list):
        into = [p["value"] for p in properties if p["name"] == f"{PREFIX}:linked-into"]
    licences = component.get("licenses")
    licence = UNKNOWN_LICENCE
    if isinstance(licences, list) and licences:
        first = licences[0]
        held = first.get("license", {})
        licence = first.get("expression") or held.get("id") or held.get("name") or licence
    linked = "all" if set(into) == programs and len(programs) > 1 else ", ".join(into)
    return BillRow(str(component["name"]), str(component.get("version", "")), licence, linked)


def _entries(
    target: Target,
    source: SourceTree,
    compiler: Mapping[str, str],
    programs: tuple[str, ...],
    files: Mapping[str, set[str]] | None,
    zig: Path | None,
    system: Path,
) -> list[_Entry]:
    found: list[_Entry] = []
    for part in (LLAMA_CPP, GGML):
        found.append(_entry(part, source.folder, programs))
    if files is None:
        files = dict.fromkeys(programs, _all_vendored(source.folder))
    into: dict[str, tuple[Part, list[str]]] = {}
    for program in programs:
        for part in parts_of(files.get(program, set())):
            into.setdefault(part.name, (part, []))[1].append(program)
    for _, (part, users) in sorted(into.items()):
        found.append(_entry(part, source.folder, tuple(users)))
    name = compiler.get("name", "")
    root = zig if name == "zig" and zig is not None else system
    for part in runtime_parts(name, linkage=target.linkage):
        entry = _entry(part, root, programs)
        found.append(_with_told_version(entry, compiler))
    return found


def _all_vendored(tree: Path) -> set[str]:
    tops = ("vendor", "common", "ggml/src/ggml-cpu/llamafile")
    return {
        path.relative_to(tree).as_posix()
        for top in tops
        for path in (tree / top).rglob("*")
        if path.is_file() and path.name != "CMakeLists.txt"
    }


def _entry(part: Part, folder: Path, programs: tuple[str, ...]) -> _Entry:
    texts: dict[str, str] = {}
    for wanted in part.texts:
        text = licence_text(wanted, folder)
        if text is not None:
            number = f"-{len(texts) + 1}" if texts else ""
            texts[f"{_slug(part.name)}{number}.txt"] = text
    return _Entry(part, part_version(part, folder), programs, texts)


def _with_told_version(entry: _Entry, compiler: Mapping[str, str]) -> _Entry:
    """A runtime part with the version that the compiler told of it, if that is known better."""
    told = _told_version(entry.part, compiler)
    # The files of a container's libraries are not here; those of this machine are others.
    if told is None and compiler.get("name") != CONTAINER:
        return entry
    return replace(entry, version=told)


def _told_version(part: Part, compiler: Mapping[str, str]) -> str | None:
    if part is GLIBC:
        packages = ("package:libc6-dev-arm64-cross", "package:libc6-dev")
        return next((compiler[key] for key in packages if key in compiler), None)
    if part not in (GCC_RUNTIME, ZIG_RUNTIME):
        return None
    # gcc ends its first line with its version.
    words = (compiler.get("compiler") or compiler.get("version", "")).split()
    return words[-1] if words else None


def _own_component(sha256: str, has_text: bool) -> dict[str, object]:
    found: dict[str, object] = {
        "type": "library",
        "bom-ref": f"part:{PROBE}-source",
        "name": f"{PROBE} (source)",
        "version": __version__,
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    if has_text:
        found["externalReferences"] = [{"type": "license", "url": f"{LICENCES_NAME}/{PREFIX}.txt"}]
    found["properties"] = [
        _property("linked-into", PROBE),
        _property("sha256-of-project", sha256),
    ]
    return found


def _component(entry: _Entry, source: SourceTree, lock: SourceLock | None) -> dict[str, object]:
    part = entry.part
    found: dict[str, object] = {
        "type": "library",
        "bom-ref": _reference(part.name),
        "name": part.name,
    }
    version = source.commit if part is LLAMA_CPP else entry.version
    if version is not None:
        found["version"] = version
    if part.licence == PUBLIC_DOMAIN:
        found["licenses"] = [{"license": {"name": PUBLIC_DOMAIN}}]
    elif " " in part.licence:
        found["licenses"] = [{"expression": part.licence}]
    elif part.licence:
        found["licenses"] = [{"license": {"id": part.licence}}]
    owners = copyright_lines(entry.texts)
    if owners:
        found["copyright"] = "\n".join(owners)
    if part.purl is not None:
        # Without a version only the name is known.
        pattern = part.purl if version is not None else part.purl.partition("@")[0]
        found["purl"] = pattern.format(version=version)
    references: list[dict[str, object]] = [
        {"type": "license", "url": f"{LICENCES_NAME}/{name}"} for name in entry.texts
    ]
    properties = [_property("linked-into", program) for program in entry.programs]
    if part is LLAMA_CPP or part is GGML:
        properties.append(_property("llama.cpp-commit", source.commit))
        if lock is not None and lock.sha256 == source.sha256:
            references.append(
                {
                    "type": "source-distribution",
                    "url": f"pkg:pypi/{lock.project}@{lock.version}",
                    "hashes": [_sha256(source.sha256)],
                }
            )
        else:
            properties.append(_property("sha256-of-source", source.sha256))
    if part.note is not None:
        properties.append(_property("note", part.note))
    if part.licence and not entry.texts:
        properties.append(_property("licence-text", "not found on the machine that built this"))
    if not part.licence:
        properties.append(_property("licence", f"{UNKNOWN_LICENCE}: see {part.places[0]}"))
    if references:
        found["externalReferences"] = references
    found["properties"] = properties
    return found


def _program(name: str, sha256: str) -> dict[str, object]:
    return {
        "type": "library" if name.endswith(".so") else "application",
        "bom-ref": f"{PROGRAM}{name}",
        "name": name,
        "hashes": [_sha256(sha256)],
    }


def _metadata(
    target: Target,
    source: SourceTree,
    compiler: Mapping[str, str],
    flags: Sequence[str],
    cmake_options: Mapping[str, str],
    derived: bool,
) -> dict[str, object]:
    evidence = (
        "ninja's records of what was compiled for each program"
        if derived
        else "everything in the source tree: nobody recorded what was compiled"
    )
    return {
        "lifecycles": [{"phase": "build"}],
        "tools": {"components": [{"type": "application", "name": PREFIX, "version": __version__}]},
        "component": {
            "type": "application",
            "bom-ref": "build",
            "name": f"llama.cpp for {target.name}",
            "version": source.commit,
        },
        "properties": [
            _property("target", target.name),
            _property("linkage", target.linkage),
            *(_property(f"compiler:{key}", value) for key, value in sorted(compiler.items())),
            *(_property("compiler-flag", flag) for flag in flags),
            *(_property(f"cmake:{key}", value) for key, value in sorted(cmake_options.items())),
            _property("linked-into-is-from", evidence),
        ],
    }


def _dependencies(entries: Sequence[_Entry], programs: Sequence[str]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [
        {"ref": "build", "dependsOn": [f"{PROGRAM}{name}" for name in programs]}
    ]
    for program in programs:
        parts = [_reference(e.part.name) for e in entries if program in e.programs]
        if program == PROBE:
            parts.append(f"part:{PROBE}-source")
        found.append({"ref": f"{PROGRAM}{program}", "dependsOn": sorted(parts)})
    return found


def _property(name: str, value: str) -> dict[str, str]:
    return {"name": f"{PREFIX}:{name}", "value": value}


def _sha256(value: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": value}


def _reference(name: str) -> str:
    return f"part:{_slug(name)}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+_]+", "-", name)
