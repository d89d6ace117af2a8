from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgequant.boards.profile import list_profiles
from edgequant.build import matrix
from edgequant.build.matrix import (
    CachedBuild,
    WayState,
    cached_builds,
    make_matrix,
    ways_here,
)
from edgequant.build.plan import RECIPE, Plan
from edgequant.build.recipe import sha256_of_project
from edgequant.build.source.lock import load_lock
from edgequant.build.source.tree import SourceTree
from edgequant.build.targets.target import load_target, target_names
from edgequant.cli.app import make_app
from edgequant.core.artefact import Manifest
from edgequant.core.paths import data_folder

TARGETS = [load_target(name) for name in target_names()]
BOARD_TARGET = load_target("armv8.2-a+dotprod+fp16")


def no_way(_target: object) -> list[WayState]:
    return []


def write_manifest(cache: Path, key: str, text: str) -> None:
    folder = cache / "artefacts" / "build" / key
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)


def todays_manifest(key: str, target: str, way: str = "zig") -> dict[str, object]:
    """What a build of today writes, as far as it is read."""
    lock = load_lock()
    return {
        "key": key,
        "llama_cpp_commit": lock.llama_cpp_commit,
        "inputs": {
            "llama.cpp": lock.sha256,
            "project": sha256_of_project(data_folder("toolchain")),
        },
        "parameters": {
            "target": target,
            "compiler": {"name": way},
            "recipe": RECIPE,
            "tools": ["llama-bench"],
        },
    }


def test_every_target_has_a_row_from_the_least_needy_to_the_host() -> None:
    rows = make_matrix(TARGETS, {}, no_way, [], machine="aarch64")
    assert {row.target for row in rows} == set(target_names())
    assert rows[0].target == "armv8-a"
    assert rows[0].features == ()
    assert rows[-1].target == "host"
    assert rows[-1].architecture == "aarch64"
    needs = [len(row.features) for row in rows[:-1]]
    assert needs == sorted(needs)


def test_boards_and_builds_stand_beside_their_target() -> None:
    build = CachedBuild("armv8-a", "0123", "zig", "0c1e57098", ("llama-bench",))
    rows = make_matrix(TARGETS, {"b": "armv8-a", "a": "armv8-a", "c": "z80"}, no_way, [build])
    row = next(row for row in rows if row.target == "armv8-a")
    assert row.boards == ("a", "b")
    assert row.builds == (build,)
    assert all(other.builds == () for other in rows if other.target != "armv8-a")
    told = json.loads(json.dumps(row.as_dict()))
    assert told["builds"][0]["way"] == "zig"
    assert told["boards"] == ["a", "b"]


def test_only_builds_that_would_be_found_again_are_counted(tmp_path: Path) -> None:
    of_today = todays_manifest("a", "armv8-a")
    write_manifest(tmp_path, "a", json.dumps(of_today))
    write_manifest(tmp_path, "b", json.dumps(todays_manifest("b", "host", way="container")))
    parameters, inputs = of_today["parameters"], of_today["inputs"]
    assert isinstance(parameters, dict)
    assert isinstance(inputs, dict)
    others: dict[str, dict[str, object]] = {
        "recipe": {"parameters": parameters | {"recipe": RECIPE - 1}},
        "no-recipe": {"parameters": {k: v for k, v in parameters.items() if k != "recipe"}},
        "target": {"parameters": parameters | {"target": "z80"}},
        "project": {"inputs": inputs | {"project": "0" * 64}},
        "source": {"inputs": inputs | {"llama.cpp": "0" * 64}},
        "commit": {"llama_cpp_commit": "0000000"},
    }
    for key, changed in others.items():
        write_manifest(tmp_path, key, json.dumps(of_today | {"key": key} | changed))
    write_manifest(tmp_path, "a.draft-17", json.dumps(of_today))
    for key, text in {"c": "{", "d": "[]", "e": '{"parameters": 3}'}.items():
        write_manifest(tmp_path, key, text)
    commit = load_lock().llama_cpp_commit
    assert cached_builds(tmp_path) == [
        CachedBuild("armv8-a", "a", "zig", commit, ("llama-bench",)),
        CachedBuild("host", "b", "container", commit, ("llama-bench",)),
    ]
    assert cached_builds(tmp_path / "none") == []


def test_what_a_plan_would_find_is_counted(tmp_path: Path) -> None:
    lock = load_lock()
    source = SourceTree(tmp_path, lock.llama_cpp_commit, lock.sha256)
    plan = Plan(BOARD_TARGET, source, (), identity={"name": "zig"}, flags=[], trees=tmp_path)
    manifest = Manifest(
        stage="build",
        key=plan.recipe.key,
        created="",
        llama_cpp_commit=source.commit,
        inputs=plan.inputs,
        parameters=plan.parameters,
    )
    write_manifest(tmp_path, plan.recipe.key, manifest.model_dump_json())
    assert [build.key for build in cached_builds(tmp_path)] == [plan.recipe.key]


def test_a_container_needs_an_engine_and_is_not_for_this_host() -> None:
    def state(target: str, *engines: str) -> WayState:
        ways = ways_here(load_target(target), lambda name: f"/{name}" if name in engines else None)
        return next(way for way in ways if way.way == "container")

    assert state("rk3568", "buildah") == WayState("container", True, "buildah")
    assert not state("rk3568").available
    assert "docker, podman, buildah" in state("rk3568").detail
    assert "not for this machine" in state("host", "docker").detail


def test_a_target_without_a_compilers_flags_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = BOARD_TARGET.model_copy(
        update={"zig": type(BOARD_TARGET.zig)(), "gcc": type(BOARD_TARGET.gcc)()}
    )
    states = {state.way: state for state in ways_here(bare, lambda name: f"/{name}")}
    assert not any(state.available for state in states.values())
    assert "[zig]" in states["zig"].detail
    assert "[gcc]" in states["gcc"].detail
    assert "[gcc]" in states["container"].detail


def test_the_command_prints_each_target_and_why_a_way_is_closed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path))
    monkeypatch.setattr(
        matrix, "ways_here", lambda _target: [WayState("gcc", False, "no compiler: get one")]
    )

    def call(*more: str) -> str:
        arguments = ["toolchain", "targets", *more]
        return CliRunner().invoke(make_app(arguments), arguments, catch_exceptions=False).stdout

    told = json.loads(call("--json"))
    assert [row["target"] for row in told][-1] == "host"
    boards = {board for row in told for board in row["boards"]}
    assert boards == set(list_profiles())
    text = call()
    assert "no gcc: no compiler: get one (armv8-a, " in text
