from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgequant.cli.app import make_app
from edgequant.toolchain import doctor
from edgequant.toolchain.doctor import (
    Check,
    PackageNeed,
    ProgramNeed,
    check_builds,
    check_disk,
    check_package,
    check_program,
    check_python,
    install_command,
    missing_required,
)

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


def test_root_needs_no_sudo() -> None:
    def which(_name: str) -> str:
        return "/usr/bin/apt-get"

    assert install_command("x", which=which, user_id=0).startswith("apt-get ")
    assert install_command("x", which=which, user_id=1000).startswith("sudo apt-get ")


def test_a_system_without_apt_is_told_the_name() -> None:
    assert "Debian calls ccache" in install_command("ccache", which=nothing)


def test_an_old_python_is_missing() -> None:
    assert not check_python((3, 10)).ok
    assert check_python((3, 13)).ok


def test_a_full_disk_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check_disk(tmp_path).name == "free disk"
    monkeypatch.setattr(doctor, "NEEDED_FREE_BYTES", 1 << 60)
    check = check_disk(tmp_path)
    assert not check.ok
    assert "EDGEQUANT_CACHE" in str(check.install)


def test_builds_are_listed_and_broken_ones_passed_over(tmp_path: Path) -> None:
    for key, text in {
        "0123": json.dumps({"parameters": {"target": "host"}}),
        "4567": "{",
        "89ab": "[]",
    }.items():
        folder = tmp_path / "artefacts" / "build" / key
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(text)
    assert check_builds(tmp_path).detail == "host (0123)"
    assert check_builds(tmp_path / "empty").ok


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
