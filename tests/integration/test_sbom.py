"""The bill of a real build: read from ninja's records of it and from the real trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.build.bill.linked import (
    PARTS,
    files_of_programs,
    licence_text,
    part_version,
    parts_of,
)
from edgequant.build.bill.sbom import bill_table, write_sbom
from edgequant.build.source.lock import load_lock
from edgequant.build.source.tree import SourceTree, fetch_source
from edgequant.build.targets.target import load_target
from edgequant.build.ways.compilers import build_program
from edgequant.core.errors import EdgequantError
from edgequant.core.paths import cache_root

pytestmark = pytest.mark.integration

TARGET = "armv8.2-a+dotprod+fp16"


@pytest.fixture(scope="module")
def source() -> SourceTree:
    try:
        return fetch_source(load_lock())
    except EdgequantError as error:
        pytest.skip(f"no llama.cpp source: {error.cause}")


@pytest.fixture(scope="module")
def compiled(source: SourceTree) -> Path:
    """A folder in which all three of the board's programs were compiled."""
    for folder in sorted((cache_root() / "build-trees").glob(f"{TARGET}-*/build")):
        names = {path.name for path in (folder / "bin").glob("*")}
        cache = (folder / "CMakeCache.txt").read_text() if names else ""
        if {"edgequant-probe", "llama-bench"} <= names and str(source.folder) in cache:
            return folder
    pytest.skip(f"nothing was compiled for {TARGET} here (edgequant build --board rk3568)")


def test_what_went_into_each_program(source: SourceTree, compiled: Path) -> None:
    pytest.importorskip("ninja")
    programs = ["edgequant-probe", "llama-bench"]
    files = files_of_programs(build_program("ninja"), compiled, programs, source.folder)
    probe = {part.name for part in parts_of(files["edgequant-probe"])}
    bench = {part.name for part in parts_of(files["llama-bench"])}
    # The probe is libllama alone; llama-bench has llama.cpp's common library.
    assert probe == {"tinyBLAS of llamafile"}
    assert bench > probe | {"nlohmann-json", "cpp-httplib"}
    assert "miniaudio" not in bench
    assert "ggml/src/ggml.c" in files["edgequant-probe"]


def test_every_part_of_the_pinned_source_has_its_text(source: SourceTree) -> None:
    for part in PARTS:
        for wanted in part.texts:
            text = licence_text(wanted, source.folder)
            assert text is not None, part.name
            assert len(text) < 20_000, part.name
        if part.version is not None:
            assert part_version(part, source.folder) is not None, part.name


def test_the_pinned_source_has_no_part_that_is_unknown(source: SourceTree) -> None:
    names = [
        path.relative_to(source.folder).as_posix()
        for path in (source.folder / "vendor").rglob("*")
        if path.is_file() and path.name != "CMakeLists.txt"
    ]
    assert [part.name for part in parts_of(names) if not part.licence] == []


def test_a_bill_with_zig(source: SourceTree, tmp_path: Path) -> None:
    ziglang = pytest.importorskip("ziglang")
    bill = write_sbom(
        tmp_path,
        target=load_target(TARGET),
        source=source,
        compiler={"name": "zig", "version": "0.0"},
        flags=[],
        cmake_options={},
        binaries={"edgequant-probe": "ab" * 32},
        files=None,
        project_sha256="cd" * 32,
        lock=load_lock(),
        zig=Path(ziglang.__file__).parent,
    )
    assert bill.missing == ()
    rows = {row.component: row for row in bill_table(bill.path)}
    assert all(row.licence != "not known" for row in rows.values())
    assert rows["musl"].version.startswith("1.")
    assert int(rows["libcxx"].version.split(".")[0]) >= 17
    assert "Apache License" in (tmp_path / "licenses" / "libcxx.txt").read_text()
    assert "Rich Felker" in (tmp_path / "licenses" / "musl.txt").read_text()
