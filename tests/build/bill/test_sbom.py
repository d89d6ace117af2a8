"""Bills of materials: what went in, its licences, and the same bytes for the same build."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgequant.build.bill.linked import (
    PARTS,
    LicenceText,
    copyright_lines,
    files_from_records,
    files_of_programs,
    licence_text,
    parse_deps,
    part_version,
    parts_of,
    runtime_parts,
)
from edgequant.build.bill.sbom import SBOM_NAME, Bill, BillRow, bill_table, write_sbom
from edgequant.build.source.lock import SourceLock
from edgequant.build.source.tree import SourceTree
from edgequant.build.targets.target import load_target
from edgequant.core.errors import ArtefactError, BuildError

SHA256 = "ab" * 32
LOCK = SourceLock(project="some-source", version="1.2", sha256=SHA256, llama_cpp_commit="0c1e57098")
DEPS = """\
llama.cpp/src/llama.cpp.o: #deps 2, deps mtime 1795263007635905207 (VALID)
    /tree/src/llama.cpp
    ../../tree/vendor/nlohmann/json.hpp

bin/empty.o: #deps 0, deps mtime 0 (STALE)

probe/probe.cpp.o: #deps 1, deps mtime 1795263007635905207 (VALID)
    ../project/probe.cpp
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The files of llama.cpp that a bill is read from, each as short as can be."""
    files = {
        "LICENSE": "MIT License\n\nCopyright (c) 2023-2026 The ggml authors\n\nPermission is\n",
        "ggml/CMakeLists.txt": "set(GGML_VERSION_MAJOR 0)\nset(GGML_VERSION_MINOR 25)\n"
        "set(GGML_VERSION_PATCH 3)\n",
        "vendor/cpp-httplib/LICENSE": "MIT\nCopyright (c) 2017 yhirose\n",
        "vendor/cpp-httplib/httplib.h": '#define CPPHTTPLIB_VERSION "0.58.0"\n',
        "vendor/sheredom/subprocess.h": "/* latest */\n/*\n   This is free and unencumbered\n*/\nx",
        "vendor/hash/sha256/sha256.c": "",
        "vendor/hash/sha256/LICENSE": "2010-06-11 : Igor Pavlov : Public domain\n",
        "vendor/newcomer/code.h": "",
        "vendor/CMakeLists.txt": "",
    }
    for name, text in files.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "tree"


FILES = {
    "edgequant-probe": {"src/llama.cpp"},
    "llama-bench": {
        "src/llama.cpp",
        "vendor/cpp-httplib/httplib.h",
        "vendor/sheredom/subprocess.h",
        "vendor/hash/sha256/sha256.c",
    },
}


def write(folder: Path, tree: Path, **changes: Any) -> Bill:
    folder.mkdir()
    settings: dict[str, Any] = {
        "target": load_target("armv8-a"),
        "source": SourceTree(tree, "0c1e57098", SHA256),
        "compiler": {"name": "zig", "version": "0.17.1"},
        "flags": ["-target", "aarch64-linux-musl"],
        "cmake_options": {"GGML_NATIVE": "OFF"},
        "binaries": {"edgequant-probe": "12" * 32, "llama-bench": "34" * 32},
        "files": FILES,
        "project_sha256": "cd" * 32,
        "lock": LOCK,
    }
    return write_sbom(folder, **(settings | changes))


def read(bill: Bill) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(bill.path.read_text())
    return document


def test_equal_builds_have_equal_bills(tmp_path: Path, tree: Path) -> None:
    first, second = write(tmp_path / "a", tree), write(tmp_path / "b", tree)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert [p.name for p in first.texts] == [p.name for p in second.texts]
    other = write(tmp_path / "c", tree, flags=["-target", "other"])
    assert read(other)["serialNumber"] != read(first)["serialNumber"]
    assert str(tmp_path) not in first.path.read_text()


def test_it_is_cyclonedx(tmp_path: Path, tree: Path) -> None:
    document = read(write(tmp_path / "a", tree))
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", document["serialNumber"]
    )
    components = document["components"]
    references = [c["bom-ref"] for c in components] + ["build"]
    assert len(references) == len(set(references))
    for component in components:
        assert component["type"] in ("application", "library")
        assert component["name"]
        for licence in component.get("licenses", []):
            assert len(licence) == 1
    for dependency in document["dependencies"]:
        assert dependency["ref"] in references
        assert set(dependency["dependsOn"]) <= set(references)
        assert len(set(dependency["dependsOn"])) == len(dependency["dependsOn"])


def test_a_validator_accepts_it(tmp_path: Path, tree: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    text = write(tmp_path / "a", tree).path.read_text()
    fault = validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text)
    assert fault is None


def test_the_rows_for_people(tmp_path: Path, tree: Path) -> None:
    bill = write(tmp_path / "a", tree)
    rows = {row.component: row for row in bill_table(bill.path)}
    assert rows["llama.cpp"] == BillRow("llama.cpp", "0c1e57098", "MIT", "all")
    assert rows["ggml"].version == "0.25.3"
    assert rows["cpp-httplib"] == BillRow("cpp-httplib", "0.58.0", "MIT", "llama-bench")
    assert rows["subprocess.h"].licence == "Unlicense"
    assert rows["sha256 by Igor Pavlov"].licence == "Public domain"
    assert rows["libcxx"].licence == "Apache-2.0 WITH LLVM-exception"
    assert rows["edgequant-probe (source)"].linked_into == "edgequant-probe"
    assert "edgequant-probe" not in rows
    # Neither program has it.
    assert "miniaudio" not in rows


def test_the_pinned_archive_is_named_with_its_hash(tmp_path: Path, tree: Path) -> None:
    text = write(tmp_path / "a", tree).path.read_text()
    assert "pkg:pypi/some-source@1.2" in text
    own = write(tmp_path / "b", tree, source=SourceTree(tree, "unknown", "ef" * 32))
    assert "pkg:pypi/some-source" not in own.path.read_text()
    assert "ef" * 32 in own.path.read_text()


def test_texts_are_written_and_missing_ones_are_named(tmp_path: Path, tree: Path) -> None:
    bill = write(tmp_path / "a", tree)
    folder = tmp_path / "a" / "licenses"
    assert "yhirose" in (folder / "cpp-httplib.txt").read_text()
    assert (folder / "subprocess.h.txt").read_text() == "This is free and unencumbered\n"
    # There is no zig here, so its libraries' licences are not.
    assert set(bill.missing) >= {"libcxx", "musl"}
    components = {c["name"]: c for c in read(bill)["components"]}
    assert "not found" in str(components["musl"]["properties"])
    named = {r["url"] for c in components.values() for r in c.get("externalReferences", [])}
    assert {f"licenses/{path.name}" for path in bill.texts} <= named
    assert components["llama.cpp"]["copyright"] == "Copyright (c) 2023-2026 The ggml authors"


def test_an_unknown_folder_is_reported_without_a_licence(tmp_path: Path, tree: Path) -> None:
    files = {"llama-bench": {"vendor/newcomer/code.h", "vendor/CMakeLists.txt"}}
    bill = write(tmp_path / "a", tree, files=files, binaries={"llama-bench": SHA256})
    rows = {row.component: row for row in bill_table(bill.path)}
    assert rows["newcomer"].licence == "not known"
    assert "CMakeLists.txt" not in rows


def test_without_records_everything_is_named_and_that_is_said(tmp_path: Path, tree: Path) -> None:
    bill = write(tmp_path / "a", tree, files=None)
    rows = {row.component: row for row in bill_table(bill.path)}
    assert rows["cpp-httplib"].linked_into == "all"
    assert "nobody recorded" in bill.path.read_text()


def test_gcc_brings_libraries_with_duties(tmp_path: Path, tree: Path) -> None:
    system = tmp_path / "system"
    texts = {
        "usr/share/doc/libc6-arm64-cross/copyright": "glibc's",
        "usr/share/common-licenses/LGPL-2.1": "LGPL",
        "usr/share/doc/gcc-12-aarch64-linux-gnu-base/copyright": "gcc's",
        "usr/aarch64-linux-gnu/include/features.h": "#define\t__GLIBC__\t2\n"
        "#define\t__GLIBC_MINOR__\t36\n",
    }
    for name, text in texts.items():
        (system / name).parent.mkdir(parents=True, exist_ok=True)
        (system / name).write_text(text)
    compiler = {"name": "gcc", "version": "aarch64-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0"}
    bill = write(tmp_path / "a", tree, compiler=compiler, system=system)
    rows = {row.component: row for row in bill_table(bill.path)}
    assert rows["glibc"] == BillRow("glibc", "2.36", "LGPL-2.1-or-later", "all")
    assert rows["libstdc++ and libgcc"].version == "12.2.0"
    assert "GCC-exception-3.1" in rows["libstdc++ and libgcc"].licence
    assert "relink" in bill.path.read_text()
    assert bill.missing == ()
    assert {p.name for p in bill.texts} >= {"glibc.txt", "glibc-2.txt"}


def test_a_container_tells_the_versions_of_its_libraries(tmp_path: Path, tree: Path) -> None:
    system = tmp_path / "system"
    header = system / "usr/include/features.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define __GLIBC__ 2\n#define __GLIBC_MINOR__ 99\n")
    silent = {"name": "container", "base_image": "some:image"}
    told = silent | {
        "compiler": "aarch64-linux-gnu-g++ (Debian 12.2.0-14) 12.2.0",
        "package:libc6-dev-arm64-cross": "2.36-8cross1",
    }
    for folder, compiler, glibc, gcc in (
        ("a", told, "2.36-8cross1", "12.2.0"),
        # What this machine has says nothing of the container.
        ("b", silent, "", ""),
    ):
        bill = write(tmp_path / folder, tree, compiler=compiler, system=system)
        rows = {row.component: row for row in bill_table(bill.path)}
        assert rows["glibc"].version == glibc
        assert rows["libstdc++ and libgcc"].version == gcc
        assert {"glibc", "libstdc++ and libgcc"} <= set(bill.missing)


def test_parts_have_package_urls(tmp_path: Path, tree: Path) -> None:
    components = {c["name"]: c for c in read(write(tmp_path / "a", tree))["components"]}
    assert components["llama.cpp"]["purl"] == "pkg:github/ggml-org/llama.cpp@0c1e57098"
    assert components["cpp-httplib"]["purl"] == "pkg:github/yhirose/cpp-httplib@v0.58.0"
    assert components["subprocess.h"]["purl"] == "pkg:github/sheredom/subprocess.h"
    assert "purl" not in components["sha256 by Igor Pavlov"]


def test_our_own_licence_is_there(tmp_path: Path, tree: Path) -> None:
    write(tmp_path / "a", tree)
    assert "Apache License" in (tmp_path / "a" / "licenses" / "edgequant.txt").read_text()
    write(tmp_path / "b", tree, binaries={"llama-bench": SHA256})
    assert not (tmp_path / "b" / "licenses" / "edgequant.txt").exists()


def test_a_silent_ninja_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="does not say"):
        files_of_programs(Path("/bin/false"), tmp_path, ["llama-bench"], tmp_path)


def test_a_build_for_this_machine_takes_its_c_library_from_the_system() -> None:
    names = {part.name for part in runtime_parts("zig", linkage="shared")}
    assert "musl" not in names
    assert "libcxx" in names
    assert runtime_parts("gcc", linkage="shared") == ()
    assert {part.name for part in runtime_parts("container", linkage="static")} >= {"glibc"}


def test_what_ninja_says_is_read() -> None:
    assert parse_deps(DEPS) == {
        "llama.cpp/src/llama.cpp.o": ["/tree/src/llama.cpp", "../../tree/vendor/nlohmann/json.hpp"],
        "bin/empty.o": [],
        "probe/probe.cpp.o": ["../project/probe.cpp"],
    }
    assert parse_deps("") == {}


def test_records_of_ninja_become_files_of_the_tree() -> None:
    inputs = {
        "llama-bench": "llama.cpp/src/llama.cpp.o\n/tree/tools/main.cpp\nlibllama.a\n",
        "edgequant-probe": "probe/probe.cpp.o\n../../tree/../tree/src/x.c\n/treehouse/x.c\n",
    }
    assert files_from_records(inputs, DEPS, build="/home/build", tree="/tree") == {
        "llama-bench": {"src/llama.cpp", "vendor/nlohmann/json.hpp", "tools/main.cpp"},
        "edgequant-probe": {"src/x.c"},
    }


def test_files_belong_to_parts() -> None:
    names = ["vendor/hash/hash.cpp", "vendor/hash/xxhash/xxhash.h", "src/llama.cpp"]
    assert [part.name for part in parts_of(names)] == ["xxhash"]
    assert [part.name for part in parts_of(["vendor/hash/md5/md5.c"])] == ["hash"]
    assert parts_of(["common/arg.cpp", "vendor/CMakeLists.txt"]) == []


def test_every_part_has_a_licence_and_a_text() -> None:
    for part in PARTS:
        assert part.licence, part.name
        assert part.texts, part.name
        assert part.places, part.name
    assert len({part.name for part in PARTS}) == len(PARTS)


def test_texts_are_cut_out_of_comments(tmp_path: Path) -> None:
    (tmp_path / "x.h").write_text("code\n/* Licence: do as\nyou like */\nmore code\n")
    assert licence_text(LicenceText("x.h", "Licence", r"\*/"), tmp_path) == (
        "Licence: do as\nyou like\n"
    )
    assert licence_text(LicenceText("x.h", "no such words"), tmp_path) is None
    assert licence_text(LicenceText("none/*/x"), tmp_path) is None


def test_versions_are_read_or_left_out(tmp_path: Path) -> None:
    by_name = {part.name: part for part in PARTS}
    assert part_version(by_name["miniaudio"], tmp_path) is None
    header = tmp_path / "vendor/miniaudio/miniaudio.h"
    header.parent.mkdir(parents=True)
    header.write_text("miniaudio - v0.11.25 - 2026-03-04\n")
    assert part_version(by_name["miniaudio"], tmp_path) == "0.11.25"
    assert part_version(by_name["rotate-bits"], tmp_path) is None


def test_owners_are_named_once() -> None:
    text = "// Copyright 2024 Mozilla\n * Copyright (C) 2012 Yann\nThe above copyright notice\n"
    assert copyright_lines({"a": text, "b": text}) == [
        "Copyright 2024 Mozilla",
        "Copyright (C) 2012 Yann",
    ]


def test_what_is_no_bill_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / SBOM_NAME
    with pytest.raises(ArtefactError, match="has no bill"):
        bill_table(path)
    for text in ("", "[]", '{"components": 3}', '{"components": [{"type": "library"}]}'):
        path.write_text(text)
        with pytest.raises(ArtefactError, match="is no bill"):
            bill_table(path)
