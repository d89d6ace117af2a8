"""What apt printed of where it gets packages from."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.core.apt import DebianSource, debian_sources, parse_index_targets


def test_only_debian_s_main_is_taken() -> None:
    printed = (
        "Debian|http://mirror/debian/|bookworm|main|/usr/share/keyrings/k.gpg\n"
        "Debian|http://mirror/debian/|bookworm|contrib|/usr/share/keyrings/k.gpg\n"
        "Somebody|http://vendor/apt/|stable|main|\n"
        "a line of another kind\n"
    )
    found = DebianSource("http://mirror/debian/", "bookworm", "/usr/share/keyrings/k.gpg")
    assert list(parse_index_targets(printed)) == [found]
    assert found.line() == "deb http://mirror/debian/ bookworm main"
    assert found.line(arch="arm64", signed_by="k") == (
        "deb [arch=arm64 signed-by=k] http://mirror/debian/ bookworm main"
    )


def test_sources_whose_lists_were_never_fetched_are_tried() -> None:
    printed = "$(ORIGIN)|http://mirror/debian/|trixie|main|$(SIGNED_BY)\n"
    assert list(parse_index_targets(printed)) == [
        DebianSource("http://mirror/debian/", "trixie", None)
    ]


def test_each_is_asked_of_apt_once_and_none_without_apt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    apt = tmp_path / "apt-get"
    line = "Debian|http://m/|bookworm|main|"
    apt.write_text(f"#!/bin/sh\necho a warning >&2\necho '{line}'; echo '{line}'\n")
    apt.chmod(0o755)
    assert debian_sources() == [DebianSource("http://m/", "bookworm", None)]
    apt.write_text("#!/bin/sh\nexit 100\n")
    assert debian_sources() == []
    apt.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert debian_sources() == []
