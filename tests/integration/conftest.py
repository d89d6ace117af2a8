"""What integration tests share: this machine's build of llama.cpp."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgequant.core.artefact import Store, load_artefact
from edgequant.core.errors import ArtefactError, EdgequantError
from edgequant.models.steps.base import converting_python


@dataclass(frozen=True)
class HostSource:
    folder: Path


@dataclass(frozen=True)
class HostBuild:
    """The part of ``edgequant.build.build.Build`` that stages depend on."""

    binaries: Path
    source: HostSource
    llama_cpp_commit: str

    def binary(self, name: str) -> Path:
        return self.binaries / name


def _already_built() -> Iterator[HostBuild]:
    """The host builds in the cache, newest first; nothing is compiled."""
    from edgequant.build.source.lock import load_lock
    from edgequant.build.source.tree import fetch_source

    manifests = (Store().root / "build").glob("*/manifest.json")
    for path in sorted(manifests, key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            manifest = load_artefact(path.parent).manifest
        except ArtefactError:
            continue
        commit = load_lock().llama_cpp_commit
        # A build of other tools (of a test of builds) may be newer.
        whole = (path.parent / "bin" / "llama-quantize").is_file()
        host = manifest.parameters.get("target") == "host"
        if whole and host and manifest.llama_cpp_commit == commit:
            source = HostSource(fetch_source(load_lock()).folder)
            yield HostBuild(path.parent / "bin", source, commit)


@pytest.fixture(scope="session")
def host_build() -> HostBuild:
    """This machine's llama.cpp tools and their source.

    ``EDGEQUANT_TEST_BUILD=1`` (set by ``make test``) builds them where they are absent; without
    it they are taken from the cache, or the test is skipped. ``EDGEQUANT_TEST_BIN`` and
    ``EDGEQUANT_TEST_SOURCE`` name the folders of a build made by hand.
    """
    binaries, source = (os.environ.get(f"EDGEQUANT_TEST_{k}") for k in ("BIN", "SOURCE"))
    if binaries and source:
        return HostBuild(Path(binaries), HostSource(Path(source)), "by-hand")
    if os.environ.get("EDGEQUANT_TEST_BUILD") == "1":
        from edgequant.build.build import build

        built = build("host")
        folder = built.binary("llama-quantize").parent
        return HostBuild(folder, HostSource(built.source.folder), built.llama_cpp_commit)
    try:
        found = next(_already_built(), None)
    except EdgequantError as error:
        pytest.skip(f"no llama.cpp source: {error.cause}")
    if found is None:
        pytest.skip("no host build in the cache (edgequant build --target host makes one)")
    return found


@pytest.fixture(scope="session", autouse=True)
def _converting_python() -> Iterator[None]:
    """All conversions of a worker together import torch and transformers once."""
    with converting_python():
        yield
