from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgequant.build.ways.containers import base_image as module
from edgequant.build.ways.containers.base_image import (
    BASE_VARIABLE,
    base_image,
    dockerfile,
    installed_packages,
    make_base_image,
    mmdebstrap_argv,
    packages,
    parse_status,
    pinned_reference,
    registry_host,
    remove_unmounted,
    sources_of,
)
from edgequant.core.apt import DebianSource
from edgequant.core.errors import BuildError, DiskFullError, ToolMissingError

STATUS = """Package: libc6
Status: install ok installed
Version: 2.36-9+deb12u13
Description: GNU C Library
 Version: not this one

Package: cmake
Version: 3.25.1-1
"""
# Writes a tar file with dpkg's list in it to the argument that ends in .partial.
MMDEBSTRAP = """#!/bin/sh
echo run >>"$0.runs"
for argument; do case $argument in *.partial) cp "$0.tar" "$argument";; esac; done
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(BASE_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An mmdebstrap on the PATH that takes no time."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("cp", "echo"):
        (folder / name).symlink_to(f"/bin/{name}")
    program = folder / "mmdebstrap"
    program.write_text(MMDEBSTRAP)
    program.chmod(0o755)
    write_debian(folder / "mmdebstrap.tar", STATUS)
    monkeypatch.setenv("PATH", str(folder))
    return program


def write_debian(archive: Path, status: str) -> None:
    with tarfile.open(archive, "w") as stream:
        member = tarfile.TarInfo("./var/lib/dpkg/status")
        member.size = len(status)
        stream.addfile(member, io.BytesIO(status.encode()))


def runs(maker: Path) -> int:
    record = maker.with_name("mmdebstrap.runs")
    return len(record.read_text().splitlines()) if record.exists() else 0


def answers(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    monkeypatch.setattr(module, "registry_answers", lambda _reference: answer)


def test_the_dockerfile_pins_its_base_by_digest() -> None:
    reference = pinned_reference(dockerfile().read_text())
    assert "@sha256:" in reference
    assert len(reference.partition("@sha256:")[2]) == 64


def test_a_dockerfile_without_a_pin_is_an_error() -> None:
    with pytest.raises(BuildError, match="BASE_IMAGE"):
        pinned_reference("FROM debian\n")


def test_the_pinned_image_is_used_where_its_registry_answers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, True)
    assert base_image().archive is None
    assert "@sha256:" in base_image().reference
    # The choice stays, so that a build keeps its key without a network.
    answers(monkeypatch, False)
    assert "@sha256:" in base_image().reference


def test_without_a_registry_the_image_is_made_once(
    cache: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, False)
    made = base_image()
    assert made.archive is not None
    assert made.reference.startswith("localhost/edgequant-base:")
    answers(monkeypatch, True)
    assert base_image() == made
    assert runs(maker) == 1


def test_other_versions_of_packages_are_another_image(
    cache: Path, maker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_base_image()
    write_debian(maker.with_name("mmdebstrap.tar"), STATUS.replace("3.25.1", "3.25.2"))
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "other"))
    assert make_base_image().reference != first.reference


def test_an_image_that_was_cut_off_is_made_anew(cache: Path, maker: Path) -> None:
    made = make_base_image()
    assert made.archive is not None
    made.archive.write_bytes(made.archive.read_bytes()[:512])
    assert make_base_image() == made
    assert runs(maker) == 2
    (made.archive.parent / "facts.json").write_text("{")
    assert make_base_image() == made
    assert runs(maker) == 3


def test_a_maker_that_fails_leaves_nothing_that_would_be_trusted(cache: Path, maker: Path) -> None:
    maker.write_text("#!/bin/sh\necho 'E: no mirror answers'\nexit 1\n")
    with pytest.raises(BuildError, match="no mirror answers"):
        make_base_image()
    assert list(cache.glob("containers/bases/*/base.tar*")) == []
    maker.write_text(MMDEBSTRAP)
    assert make_base_image().archive is not None


def test_without_registry_and_maker_the_error_says_what_to_install(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, False)
    add_manager(tmp_path, "dnf")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError, match="registry") as caught:
        base_image()
    assert "what Debian calls mmdebstrap" in str(caught.value.next_step)
    add_manager(tmp_path, "apt-get")
    with pytest.raises(ToolMissingError, match="registry") as caught:
        base_image()
    assert "apt-get install --yes mmdebstrap, or" in str(caught.value.next_step)
    assert BASE_VARIABLE in str(caught.value.next_step)
    # Nothing was decided: with mmdebstrap, or a network, it goes on.
    assert not (cache / "containers" / "base.json").exists()


def add_manager(folder: Path, name: str) -> None:
    (folder / name).write_text("#!/bin/sh\n")
    (folder / name).chmod(0o755)


def test_making_one_without_the_maker_says_what_to_install(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_manager(tmp_path, "apt-get")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissingError) as caught:
        make_base_image()
    assert "apt-get install --yes mmdebstrap" in str(caught.value.next_step)


def test_what_another_edgequant_decided_meanwhile_stays(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, False)

    @contextlib.contextmanager
    def after_another(*_: object) -> Iterator[None]:
        (cache / "containers" / "base.json").write_text('{"base": "registry"}')
        yield

    monkeypatch.setattr(module, "exclusive", after_another)
    assert base_image().archive is None
    assert json.loads((cache / "containers" / "base.json").read_text())["base"] == "registry"


def test_the_environment_decides(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, False)
    monkeypatch.setenv(BASE_VARIABLE, "registry.example/debian:12")
    assert base_image().reference == "registry.example/debian:12"
    monkeypatch.setenv(BASE_VARIABLE, "registry")
    assert "@sha256:" in base_image().reference


@pytest.mark.parametrize(
    ("reference", "host"),
    [
        ("debian:bookworm-slim", "registry-1.docker.io"),
        ("library/debian", "registry-1.docker.io"),
        ("docker.io/library/debian@sha256:00", "registry-1.docker.io"),
        ("quay.io/x/y:1", "quay.io"),
        ("localhost:5000/x", "localhost:5000"),
    ],
)
def test_the_host_of_an_image(reference: str, host: str) -> None:
    assert registry_host(reference) == host


def debian(address: str, release: str) -> DebianSource:
    return DebianSource(f"http://mirror.example/{address}/", release, None)


def test_apts_own_mirrors_are_used() -> None:
    bookworm, security = debian("debian", "bookworm"), debian("security", "bookworm-security")
    assert sources_of([bookworm, bookworm, security, debian("debian", "trixie")]) == (
        "deb http://mirror.example/debian/ bookworm main",
        "deb http://mirror.example/security/ bookworm-security main",
    )


def test_a_host_of_another_release_leaves_the_choice_to_mmdebstrap() -> None:
    assert sources_of([debian("debian", "trixie")]) == ()
    # Security updates alone are no Debian.
    assert sources_of([debian("security", "bookworm-security")]) == ()
    assert sources_of([]) == ()


def test_mmdebstrap_gets_suite_archive_and_mirrors_in_this_order() -> None:
    argv = [str(a) for a in mmdebstrap_argv(Path("/b.tar"), ("a", "b"), ("deb x y z",))]
    assert argv[-3:] == ["bookworm", "/b.tar", "deb x y z"]
    assert "--include=a,b" in argv


def test_an_arm_machine_needs_no_cross_compiler() -> None:
    assert "g++" in packages("aarch64")
    assert "g++-aarch64-linux-gnu" in packages("x86_64")
    assert {"cmake", "ninja-build", "ccache"} <= set(packages("aarch64"))


def test_installed_packages_are_read_from_the_archive(tmp_path: Path) -> None:
    assert parse_status(STATUS) == ["cmake=3.25.1-1", "libc6=2.36-9+deb12u13"]
    write_debian(tmp_path / "d.tar", STATUS)
    assert installed_packages(tmp_path / "d.tar") == parse_status(STATUS)


def test_what_is_no_debian_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar")
    with pytest.raises(BuildError, match="cannot be read"):
        installed_packages(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "e.tar", "w"):
        pass
    with pytest.raises(BuildError, match="no list"):
        installed_packages(tmp_path / "e.tar")


def test_leftovers_are_removed_unless_something_is_mounted_in_them(tmp_path: Path) -> None:
    folder = tmp_path / "left over"
    (folder / "dev").mkdir(parents=True)
    place = str(folder / "dev").replace(" ", "\\040")
    remove_unmounted(folder, f"36 35 98:0 / {place} rw - ext4 /dev/root rw\n")
    assert folder.is_dir()
    remove_unmounted(folder, "36 35 98:0 / /elsewhere rw - ext4 /dev/root rw\n")
    assert not folder.exists()
    remove_unmounted(folder)


def test_a_full_disk_is_told_before_anything_is_made(
    cache: Path, maker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(DiskFullError, match="base image needs"):
        make_base_image()
    assert runs(maker) == 0


def test_facts_name_every_package(cache: Path, maker: Path) -> None:
    made = make_base_image()
    assert made.archive is not None
    facts = json.loads((made.archive.parent / "facts.json").read_text())
    assert facts["packages"] == parse_status(STATUS)
