from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.build.recipe import cmake_options
from edgequant.build.source.tree import UNKNOWN_COMMIT, SourceTree
from edgequant.build.targets.target import load_target
from edgequant.build.ways.containers import compile as module
from edgequant.build.ways.containers.base_image import BASE_VARIABLE, BaseImage, dockerfile
from edgequant.build.ways.containers.compile import (
    compile_in_container,
    container_identity,
    parse_facts,
    quote_options,
    stage_source,
)
from edgequant.build.ways.containers.engine import Engine
from edgequant.core.errors import BuildError
from edgequant.core.paths import data_folder

DEFAULT_TARGET = "armv8.2-a+dotprod+fp16"
values = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20)


def default_of(argument: str) -> str:
    match = re.search(rf'^ARG {argument}="(.*)"$', dockerfile().read_text(), re.MULTILINE)
    assert match is not None
    return match[1]


def test_the_dockerfiles_defaults_are_what_edgequant_would_pass() -> None:
    target = load_target(DEFAULT_TARGET)
    options = cmake_options(target, SourceTree(Path("/"), UNKNOWN_COMMIT, ""))
    assert default_of("CMAKE_OPTIONS") == quote_options(options), "paste the right-hand side"
    assert default_of("TARGET_FLAGS") == " ".join(target.gcc.flags)
    assert default_of("TOOLS") == " ".join(target.tools)


@given(st.dictionaries(st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), values, max_size=4))
def test_a_shell_takes_options_apart_as_they_were(options: dict[str, str]) -> None:
    assert shlex.split(quote_options(options)) == [f"-D{n}={v}" for n, v in options.items()]


def test_the_way_the_dockerfile_takes_options_apart_is_safe() -> None:
    options = {"A": "-Xclang;-O0", "B": "two words", "C": "$(touch oops) `x` 'y' \"z\"", "D": ""}
    ran = subprocess.run(
        ["sh", "-euc", 'eval "set -- $OPTIONS"; for o; do printf "%s\\n" "$o"; done'],
        env={"OPTIONS": quote_options(options)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == [f"-D{name}={value}" for name, value in options.items()]


def test_only_what_a_build_reads_is_sent(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in ("CMakeLists.txt", "LICENSE", "ggml/a.c", "src/b.cpp", ".git/HEAD", "models/m"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    (tree / "src" / "link").symlink_to("b.cpp")
    stage_source(tree, tmp_path / "staged")
    staged = {p.relative_to(tmp_path / "staged").as_posix() for p in tmp_path.rglob("staged/**/*")}
    assert staged == {"CMakeLists.txt", "LICENSE", "ggml", "ggml/a.c", "src", "src/b.cpp"} | {
        "src/link"
    }
    assert (tmp_path / "staged" / "src" / "link").is_symlink()


def test_facts_are_lines_of_names_and_values() -> None:
    assert parse_facts("compiler=g++ (x=y) 12\n\nnonsense\nninja=1.11\n") == {
        "compiler": "g++ (x=y) 12",
        "ninja": "1.11",
    }


def test_the_identity_runs_no_engine_and_covers_file_and_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(BASE_VARIABLE, "one")
    first = container_identity()
    monkeypatch.setenv(BASE_VARIABLE, "two")
    assert container_identity() != first
    other = tmp_path / "Dockerfile"
    other.write_text("ARG BASE_IMAGE=x\n")
    monkeypatch.setenv(BASE_VARIABLE, "one")
    monkeypatch.setattr(module, "dockerfile", lambda: other)
    assert container_identity()["base_image"] == first["base_image"]
    assert container_identity() != first


@pytest.mark.parametrize(
    ("base", "forced", "words", "not_words"),
    [
        ("registry", None, ["CONTAINER_BASE=made", "base.json to have it decided again"], []),
        ("registry", "registry", ["CONTAINER_BASE=made"], ["base.json"]),
        ("made", None, ["read the whole log"], ["CONTAINER_BASE"]),
    ],
)
def test_a_pull_that_fails_has_a_way_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    base: str,
    forced: str | None,
    words: list[str],
    not_words: list[str],
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    if forced is not None:
        monkeypatch.setenv(BASE_VARIABLE, forced)
    engine = tmp_path / "docker"
    engine.write_text("#!/bin/sh\necho 'failed to resolve: i/o timeout'; exit 1\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    archive = tmp_path / "base.tar" if base == "made" else None
    monkeypatch.setattr(module, "base_image", lambda: BaseImage("debian@sha256:00", archive))
    monkeypatch.setattr(module, "find_engine", lambda: Engine("docker"))
    monkeypatch.setattr(module, "provide", lambda *_: None)
    monkeypatch.setattr(module, "NEEDED_BYTES", 0)
    (tmp_path / "tree").mkdir()
    with pytest.raises(BuildError, match="i/o timeout") as caught:
        compile_in_container(
            source=tmp_path / "tree",
            project=data_folder("toolchain"),
            target_name=DEFAULT_TARGET,
            flags=(),
            cmake_options={},
            tools=("llama-bench",),
            out=tmp_path,
            log=tmp_path / "log",
        )
    step = str(caught.value.next_step)
    assert all(word in step for word in [*words, str(tmp_path / "log")]), step
    assert not any(word in step for word in not_words), step
