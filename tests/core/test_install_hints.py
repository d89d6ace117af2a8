from __future__ import annotations

import pytest

from edgequant.core.install_hints import install_command


def nothing(_name: str) -> None:
    return None


def test_root_needs_no_sudo() -> None:
    def which(_name: str) -> str:
        return "/usr/bin/apt-get"

    assert install_command("x", which=which, user_id=0).startswith("apt-get ")
    assert install_command("x", which=which, user_id=1000).startswith("sudo apt-get ")


def test_a_system_without_apt_is_told_the_name() -> None:
    assert "Debian calls ccache" in install_command("ccache", which=nothing)


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "sudo apt-get install --yes qemu-system-arm"),
        ("dnf", "sudo dnf install --assumeyes qemu-system-aarch64"),
        ("apk", "sudo apk add qemu-system-aarch64"),
        ("pacman", "sudo pacman -S --noconfirm qemu-system-aarch64"),
        ("zypper", "sudo zypper --non-interactive install qemu-arm"),
    ],
)
def test_each_package_manager_has_its_own_words(manager: str, command: str) -> None:
    def which(name: str) -> str | None:
        return f"/usr/bin/{name}" if name == manager else None

    assert install_command("qemu-system-arm", which=which, user_id=1000) == command
    if manager != "apt-get":
        assert "Debian calls g++-aarch64" in install_command("g++-aarch64-linux-gnu", which=which)
