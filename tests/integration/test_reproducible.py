"""The pinned llama.cpp and the probe, built once more, elsewhere and later."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgequant.build import plan
from edgequant.build.build import Build, build
from edgequant.build.source.lock import load_lock
from edgequant.build.source.tree import fetch_source, sources_folder
from edgequant.core.paths import cache_root, data_folder

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TARGET = "armv8.2-a+dotprod+fp16"
PROBE = "edgequant-probe"


@dataclasses.dataclass(frozen=True)
class TwoBuilds:
    """The same probe, built in two folders at two times."""

    first: Build
    second: Build


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoBuilds]:
    """The cached build, and one from an empty cache with nothing of the first's objects."""
    if os.environ.get("EDGEQUANT_TEST_BUILD") != "1":
        pytest.skip("compiles llama.cpp for minutes; make test sets EDGEQUANT_TEST_BUILD=1")
    first = build(TARGET, tools=[PROBE])
    fetch_source(load_lock())
    elsewhere = tmp_path_factory.mktemp("another folder of another length") / "cache"
    (elsewhere / "sources").mkdir(parents=True)
    for archive in sources_folder().glob("*.tar.gz"):
        shutil.copy(archive, elsewhere / "sources")
    with pytest.MonkeyPatch.context() as patch:
        # zig's own C and C++ libraries take another minute, and are zig's to answer for.
        patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(cache_root() / "zig"))
        patch.setenv("EDGEQUANT_CACHE", str(elsewhere))
        patch.setenv("CCACHE_DISABLE", "1")
        second = build(TARGET, tools=[PROBE])
        yield TwoBuilds(first, second)


def test_the_same_inputs_make_the_same_bits(builds: TwoBuilds) -> None:
    assert not builds.second.reused
    assert builds.second.binary(PROBE) != builds.first.binary(PROBE)
    first, second = (
        {name: record.sha256 for name, record in made.artefact.manifest.files.items()}
        for made in (builds.first, builds.second)
    )
    # A build of all the target's tools serves who asks for one; its bill of materials names all.
    same_tools = builds.second.key == builds.first.key
    compared = second.keys() - {"build.log", *([] if same_tools else ["sbom.json"])}
    assert compared >= {f"bin/{PROBE}"}
    assert {name: first[name] for name in compared} == {name: second[name] for name in compared}


def test_no_folder_of_this_machine_is_in_the_binary(builds: TwoBuilds) -> None:
    binary = builds.second.binary(PROBE).read_bytes()
    assert str(Path.home()).encode() + b"/" not in binary
    assert str(builds.second.source.folder).encode() not in binary
    assert str(cache_root()).encode() not in binary


def test_a_changed_probe_compiles_the_probe_alone(
    builds: TwoBuilds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "toolchain"
    shutil.copytree(data_folder("toolchain"), project)
    with (project / "probe" / "probe.cpp").open("a") as stream:
        stream.write(
            "\nextern const char edgequant_changed[];\nconst char edgequant_changed[] = {1};\n"
        )
    monkeypatch.setattr(plan, "data_folder", lambda _: project)
    changed = build(TARGET, tools=[PROBE])
    assert not changed.reused
    assert changed.key != builds.second.key
    log = (changed.artefact.folder / "build.log").read_text()
    assert re.findall(r"^\[\d+/(\d+)\]", log, re.MULTILINE)[-1] == "2"
