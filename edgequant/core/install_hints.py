"""How a system package is installed on this machine, for messages that say what is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping

# Debian's package to the other managers' names for it, where they are known for certain.
PACKAGE_NAMES: Mapping[str, Mapping[str, str]] = {
    "qemu-system-arm": {
        "dnf": "qemu-system-aarch64",
        "apk": "qemu-system-aarch64",
        "pacman": "qemu-system-aarch64",
        "zypper": "qemu-arm",
    },
    "e2fsprogs": dict.fromkeys(("dnf", "apk", "pacman", "zypper"), "e2fsprogs"),
    "dpkg": dict.fromkeys(("dnf", "apk", "pacman", "zypper"), "dpkg"),
    "openssh-client": {
        "dnf": "openssh",
        "apk": "openssh-keygen",
        "pacman": "openssh",
        "zypper": "openssh",
    },
    "openssh-server": {
        "dnf": "openssh-server",
        "apk": "openssh-server",
        "pacman": "openssh",
        "zypper": "openssh-server",
    },
    "qemu-user-static": {
        "dnf": "qemu-user-static",
        "apk": "qemu-aarch64",
        "pacman": "qemu-user-static",
        "zypper": "qemu-linux-user",
    },
    "ccache": dict.fromkeys(("dnf", "apk", "pacman", "zypper"), "ccache"),
    "gcc": dict.fromkeys(("dnf", "apk", "pacman", "zypper"), "gcc"),
    "buildah": dict.fromkeys(("dnf", "apk", "pacman", "zypper"), "buildah"),
    "python3.11": {"dnf": "python3.11"},
}
INSTALL_WORDS: Mapping[str, str] = {
    "apt-get": "apt-get install --yes",
    "dnf": "dnf install --assumeyes",
    "zypper": "zypper --non-interactive install",
    "pacman": "pacman -S --noconfirm",
    "apk": "apk add",
}


def install_command(
    debian_package: str,
    *,
    which: Callable[[str], str | None] = shutil.which,
    user_id: int | None = None,
) -> str:
    """How to install a system package here.

    Args:
        debian_package: its name in Debian.
        which: finds programs.
        user_id: who would run it; root needs no sudo.
    """
    user_id = os.getuid() if user_id is None else user_id
    manager = next((name for name in INSTALL_WORDS if which(name) is not None), None)
    package: str | None = debian_package
    if manager != "apt-get":
        package = PACKAGE_NAMES.get(debian_package, {}).get(manager or "")
    if manager is None or package is None:
        return f"install what Debian calls {debian_package} with this system's package manager"
    return f"{'' if user_id == 0 else 'sudo '}{INSTALL_WORDS[manager]} {package}"
