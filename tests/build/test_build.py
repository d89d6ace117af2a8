from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.build.build import build
from edgequant.build.plan import Plan, choose_tools
from edgequant.build.recipe import cmake_options, copy_project, sha256_of_project
from edgequant.build.source.requirements import HEADER
from edgequant.build.source.tree import SourceTree
from edgequant.build.targets.target import load_target
from edgequant.build.ways import way as ways
from edgequant.build.ways.ninja import collect_failure, explain_failure, show_ninja_progress
from edgequant.core.artefact import ArtefactDraft, Store
from edgequant.core.errors import BuildError, SourceError
from edgequant.core.progress import Task
from tests.build.local_index import tree_files, write_tree

RECORDED = Path(__file__).parent / "recorded"
TREE = SourceTree(Path("/nowhere"), "0c1e57098", "0" * 64)


def test_ninjas_steps_move_the_bar() -> None:
    shown = Task("x", None, "items")
    for line in ("ninja: Entering directory", "[12/140] Building CXX object [3/4].o", "[x/y] z"):
        show_ninja_progress(line, shown)
    assert (shown.completed, shown.total) == (12, 140)


def test_the_first_failure_is_told_without_what_came_after() -> None:
    lines = (RECORDED / "ninja_failure.txt").read_text().splitlines()
    failure: list[str] = []
    for line in lines:
        collect_failure(line, failure)
    error = explain_failure(failure, "host", Path("build.log"))
    assert "unrecognized file extension" in error.cause
    assert "llama-vocab" not in error.cause
    assert "llama-sampler" not in error.cause


def test_an_unknown_program_is_told_as_such() -> None:
    failure: list[str] = []
    collect_failure("ninja: error: unknown target 'llama-foo', did you mean 'llama-cli'?", failure)
    error = explain_failure(failure, "host", Path("build.log"))
    assert "no program called llama-foo" in error.cause


def test_a_board_build_is_static_and_not_for_this_machines_processor() -> None:
    options = cmake_options(load_target("armv8-a"), TREE)
    assert options["CMAKE_EXE_LINKER_FLAGS"] == "-static"
    assert options["GGML_NATIVE"] == "OFF"
    assert options["CMAKE_SYSTEM_PROCESSOR"] == "aarch64"
    assert options["LLAMA_BUILD_COMMIT"] == "0c1e57098"


def test_a_host_build_also_links_a_library() -> None:
    options = cmake_options(load_target("host"), TREE)
    assert options["EDGEQUANT_SHARED_LIBLLAMA"] == "ON"
    assert options["GGML_NATIVE"] == "ON"
    assert "CMAKE_SYSTEM_NAME" not in options


def test_nothing_is_fetched_while_compiling() -> None:
    options = cmake_options(load_target("host"), TREE)
    for name in ("LLAMA_OPENSSL", "LLAMA_BUILD_UI", "LLAMA_USE_PREBUILT_UI"):
        assert options[name] == "OFF"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "toolchain"
    (folder / "probe").mkdir(parents=True)
    (folder / "CMakeLists.txt").write_text("project(x)")
    (folder / "probe" / "probe.cpp").write_text("int main() {}")
    (folder / "targets").mkdir()
    return folder


def test_a_changed_probe_changes_the_key_and_another_target_does_not(project: Path) -> None:
    before = sha256_of_project(project)
    (project / "targets" / "new.toml").write_text("x")
    assert sha256_of_project(project) == before
    (project / "probe" / "probe.cpp").write_text("int main() { return 1; }")
    assert sha256_of_project(project) != before


def test_only_changed_files_of_the_project_get_a_new_time(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy_project(project, copy)
    times = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    (project / "probe" / "probe.cpp").write_text("int main() { return 1; }")
    (project / "CMakeLists.txt").touch()
    copy_project(project, copy)
    changed = [p.name for p, time in times.items() if p.stat().st_mtime_ns != time]
    assert changed == ["probe.cpp"]
    (project / "probe" / "probe.cpp").rename(project / "probe" / "main.cpp")
    copy_project(project, copy)
    assert sorted(p.name for p in copy.rglob("*.cpp")) == ["main.cpp"]


@pytest.mark.parametrize(
    ("tools", "lacking"),
    [
        (["llama-completion"], "the program llama-completion"),
        (["edgequant-probe"], "llama_decode"),
    ],
)
def test_what_a_source_lacks_is_told_before_anything_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tools: list[str], lacking: str
) -> None:
    pytest.importorskip("ziglang")
    files = tree_files(tools=("llama-bench",))
    files[HEADER] = files[HEADER].replace("llama_decode", "llama_decode_v2")
    tree = write_tree(tmp_path / "llama.cpp", files)

    def run_nothing(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(ways, "run_logged", run_nothing)
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SourceError, match=lacking):
        build("armv8-a", tools=tools, source=tree)


def test_the_usual_build_serves_who_needs_fewer_of_its_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local board has the host's probe already."""
    pytest.importorskip("ziglang")
    tree = write_tree(tmp_path / "llama.cpp")
    made: list[tuple[str, ...]] = []

    def compile_nothing(plan: Plan, _way: object, draft: ArtefactDraft) -> None:
        made.append(plan.tools)
        (draft.folder / "bin").mkdir()
        for name in plan.outputs:
            (draft.folder / "bin" / name).write_text(name)

    monkeypatch.setattr("edgequant.build.build._make", compile_nothing)
    store = Store(tmp_path / "store")
    usual = build("host", source=tree, store=store)
    probe = build("host", tools=["edgequant-probe"], source=tree, store=store)
    assert probe.reused
    assert probe.binary("edgequant-probe") == usual.binary("edgequant-probe")
    another = build("host", tools=["edgequant-probe", "llama-bench"], source=tree, store=store)
    assert another.key != usual.key
    assert made == [usual_tools("host"), ("edgequant-probe", "llama-bench")]


def usual_tools(target: str) -> tuple[str, ...]:
    return choose_tools(load_target(target), ())


def test_what_changes_binaries_behind_the_key_does_not_get_through() -> None:
    harmful = {"CFLAGS": "-O0", "LDFLAGS": "-g", "CPATH": "/x", "CMAKE_TOOLCHAIN_FILE": "/y"}
    harmless = {"PATH": "/usr/bin", "HOME": "/home/me", "CCACHE_DIR": "/c", "TMPDIR": "/t"}
    assert ways.own_environment({**harmful, "GIT_DIR": "/z", **harmless}) == harmless


def test_a_program_is_named_once_and_by_a_programs_name() -> None:
    target = load_target("armv8-a")
    assert choose_tools(target, ()) == tuple(sorted(target.tools))
    assert choose_tools(target, ["llama-cli", "llama-bench", "llama-cli"]) == (
        "llama-bench",
        "llama-cli",
    )
    with pytest.raises(BuildError, match="not the name of a program"):
        choose_tools(target, ["clean"])
