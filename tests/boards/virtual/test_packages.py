"""What apt printed, and what is asked of it."""

from __future__ import annotations

from pathlib import Path

from edgequant.boards.virtual.image import LIBRARY_PACKAGE, module_depends
from edgequant.boards.virtual.packages import KEYRING, parse_depends, source_line
from edgequant.core.apt import DebianSource

RECORDED = Path(__file__).parent / "recorded" / "apt-cache-depends.txt"


def test_direct_dependencies_without_alternatives_behind_virtual_packages() -> None:
    names = list(parse_depends(RECORDED.read_text()))
    assert {"libc6", "libssl3", "zlib1g", "openssh-client", "init-system-helpers"} <= set(names)
    assert "debconf" in names  # the first of two alternatives
    assert not [name for name in names if name.startswith("<")]
    assert "libelogind0" not in names  # another provider, not a dependency


def test_library_packages_are_told_from_the_others() -> None:
    names = parse_depends(RECORDED.read_text())
    libraries = {name for name in names if LIBRARY_PACKAGE.match(name)}
    assert {"libc6", "libssl3", "zlib1g", "libgssapi-krb5-2"} <= libraries
    assert not {"libpam-modules", "libpam-runtime", "procps", "ucf"} & libraries


def test_sources_are_for_boards_and_signed() -> None:
    signed = DebianSource("http://mirror/debian/", "bookworm", "/k.gpg")
    assert source_line(signed) == (
        "deb [arch=arm64 signed-by=/k.gpg] http://mirror/debian/ bookworm main"
    )
    keyring = f" signed-by={KEYRING}" if KEYRING.is_file() else ""
    assert source_line(DebianSource("http://m/", "trixie", None)) == (
        f"deb [arch=arm64{keyring}] http://m/ trixie main"
    )


def test_a_module_s_dependencies() -> None:
    data = b"\x7fELF..\0license=GPL\0depends=virtio-ring,virtio\0name=x\0"
    assert module_depends(data) == ["virtio_ring", "virtio"]
    assert module_depends(b"..\0depends=\0") == []
    assert module_depends(b"none") == []
