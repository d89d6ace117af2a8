from __future__ import annotations

import importlib.metadata
import itertools
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgequant.build.source.lock import load_lock
from edgequant.build.source.tree import COMPLETE_MARK, sources_folder
from edgequant.build.ways.containers import engine as engine_module
from edgequant.cli.app import make_app
from edgequant.core import install_hints
from edgequant.doctor import checks as doctor
from edgequant.doctor.checks import (
    GROUPS,
    Check,
    PackageNeed,
    ProgramNeed,
    check_base_image_maker,
    check_builds,
    check_cross_gcc,
    check_disk,
    check_engines,
    check_package,
    check_program,
    check_python,
    check_source,
    missing_required,
)
from tests.build.test_matrix import todays_manifest, write_manifest

QEMU = ProgramNeed(("qemu-system-aarch64",), "qemu-system-arm", "the virtual board")
TORCH = PackageNeed("torch", "torch", "convert", "quantize")


def nothing(_name: str) -> None:
    return None


def absent(name: str) -> str:
    raise importlib.metadata.PackageNotFoundError(name)


def test_a_missing_program_names_its_package() -> None:
    check = check_program(QEMU, which=nothing)
    assert not check.ok
    assert check.install is not None
    assert "qemu-system-arm" in check.install


def test_any_of_a_programs_names_will_do() -> None:
    need = ProgramNeed(("a", "b"), "ab", "x")
    assert check_program(need, which=lambda n: "/bin/b" if n == "b" else None).ok


def test_a_missing_package_names_its_extra() -> None:
    check = check_package(TORCH, version_of=absent)
    assert not check.ok
    assert check.install is not None
    assert check.install.endswith("-m pip install 'edgequant[convert]'")


def test_a_package_whose_files_are_gone_is_not_ok() -> None:
    gone = PackageNeed("gone", "no_such_module_here", "build", "x")
    assert not check_package(gone, version_of=lambda _: "1.0").ok


def test_an_old_python_is_missing() -> None:
    assert not check_python((3, 10)).ok
    assert check_python((3, 13)).ok


def test_a_full_disk_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check_disk(tmp_path).name == "free disk"
    monkeypatch.setattr(doctor, "NEEDED_FREE_BYTES", 1 << 60)
    check = check_disk(tmp_path)
    assert not check.ok
    assert "EDGEQUANT_CACHE" in str(check.install)


def test_builds_that_would_be_found_are_counted_by_target(tmp_path: Path) -> None:
    old = {"target": "host", "compiler": {"name": "zig"}, "tools": []}
    for key, target in {"01": "host", "23": "armv8-a", "45": "armv8-a"}.items():
        write_manifest(tmp_path, key, json.dumps(todays_manifest(key, target)))
    write_manifest(tmp_path, "67", json.dumps({"key": "67", "parameters": old}))
    write_manifest(tmp_path, "89", "{")
    assert check_builds(tmp_path).detail == "armv8-a 2, host 1"
    assert check_builds(tmp_path / "empty").detail == "none yet"


def test_an_engine_that_is_added_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "ENGINE_NAMES", ("other",))
    monkeypatch.setattr(engine_module, "QUESTIONS", {"other": ("hello",)})
    check = check_engines(lambda name: f"/{name}", lambda path, words: f"{path} {words[0]}")
    assert check.detail == "other /other"


def test_only_what_is_required_fails_the_doctor() -> None:
    found = [
        Check("a", True, ""),
        Check("b", False, "", "get b", required=False),
        Check("c", False, "", "get c"),
    ]
    assert [check.name for check in missing_required(found)] == ["c"]


@pytest.mark.parametrize(("ok", "status"), [(True, 0), (False, 23)])
def test_the_exit_code_says_whether_all_is_there(
    monkeypatch: pytest.MonkeyPatch, ok: bool, status: int
) -> None:
    monkeypatch.setattr(doctor, "checks", lambda: [Check("thing", ok, "x", None if ok else "get")])
    arguments = ["doctor", "--json"]
    result = CliRunner().invoke(make_app(arguments), arguments)
    assert result.exit_code == status
    assert json.loads(result.stdout)["ok"] is ok


def test_every_check_is_in_a_group_and_groups_stay_together() -> None:
    groups = [check.group for check in doctor.checks()]
    assert set(groups) == set(GROUPS)
    assert [group for group, _ in itertools.groupby(groups)] == list(GROUPS)


def test_what_only_some_ways_need_is_not_required() -> None:
    for check in (
        check_cross_gcc(which=nothing),
        check_engines(which=nothing),
        check_base_image_maker(which=nothing),
    ):
        assert not check.ok
        assert not check.required
        assert check.install


def test_only_known_managers_and_packages_are_named() -> None:
    known = {need.debian_package for need in doctor.PROGRAMS}
    assert known - {"apt"} <= set(install_hints.PACKAGE_NAMES)
    for names in install_hints.PACKAGE_NAMES.values():
        assert set(names) <= set(install_hints.INSTALL_WORDS)


def test_the_first_engine_that_answers_is_named_and_the_silent_ones_too() -> None:
    def which(name: str) -> str | None:
        return f"/bin/{name}" if name != "podman" else None

    def answer(program: str, _arguments: tuple[str, ...]) -> str | None:
        return "buildah version 1.28.2 (image-spec 1.0.2)" if program == "/bin/buildah" else None

    check = check_engines(which, answer)
    assert check.ok
    assert check.detail == "buildah 1.28.2 (docker installed, but not answering)"
    silent = check_engines(which, lambda *_: None)
    assert not silent.ok
    assert "docker, buildah installed, but not answering" in silent.detail
    assert "start its service" in str(silent.install)


def test_an_engine_that_fails_does_not_answer(tmp_path: Path) -> None:
    engine = tmp_path / "docker"
    engine.write_text("#!/bin/sh\nexit 1\n")
    engine.chmod(0o755)
    only = {"docker": str(engine)}
    assert not check_engines(only.get).ok
    engine.write_text("#!/bin/sh\necho 24.0\n")
    assert check_engines(only.get).detail == "docker 24.0"


def test_the_pinned_source_is_told_with_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    lock = load_lock()
    assert "fetched by the first build" in check_source().detail
    folder = sources_folder() / f"{lock.project}-{lock.version}-{lock.sha256[:12]}"
    folder.mkdir()
    (folder / COMPLETE_MARK).touch()
    assert f"{lock.llama_cpp_commit} of" in check_source().detail
    assert "in the cache" in check_source().detail


def test_a_broken_lock_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toolchain").mkdir()
    (tmp_path / "toolchain" / "llama_cpp.lock.toml").write_text("project =")
    check = check_source()
    assert not check.ok
    assert "not valid TOML" in check.detail
    assert "llama_cpp.lock.toml" in str(check.install)
