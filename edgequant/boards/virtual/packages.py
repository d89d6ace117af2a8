"""Fetch Debian packages of another architecture through a private apt root.

The host's own apt is only asked where it gets its packages from; nothing of it is changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgequant.core.apt import DebianSource, debian_sources
from edgequant.core.errors import ToolMissingError, VirtualBoardError

ARCHITECTURE = "arm64"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEXT_STEP = (
    "the virtual board's image is made from Debian packages: run `apt-get update` once, check that "
    "the package mirror answers, and try again"
)


class AptRoot:
    """An apt of its own for one architecture, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packages = folder / "packages"

    def update(self) -> None:
        """Set the root up and fetch the package lists.

        Raises:
            ToolMissingError: apt or dpkg is not here.
            VirtualBoardError: no Debian source is configured, or the mirror does not answer.
        """
        for tool in ("apt-get", "apt-config", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise ToolMissingError(
                    f"{tool} is not installed, and the virtual board is made from Debian packages",
                    next_step="make the image once on a Debian-like machine and copy its cache",
                )
        for name in ("state/lists/partial", "cache/archives/partial", "etc", "packages"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "state" / "status").touch()
        sources = "".join(f"{source_line(source)}\n" for source in debian_sources())
        if not sources:
            raise VirtualBoardError("apt knows no Debian package source", next_step=NEXT_STEP)
        (self.folder / "etc" / "sources.list").write_text(sources)
        (self.folder / "apt.conf").write_text(self._configuration())
        self._apt("update")

    def download(self, names: Sequence[str]) -> list[Path]:
        """Fetch packages by name, without what they depend on.

        Returns:
            The .deb files; ones that were fetched before are not fetched again.
        """
        if names:
            self._apt("download", *names)
        return [self._downloaded(name) for name in names]

    def depends(self, name: str) -> list[str]:
        """Names of the packages that one depends on directly, alternatives included."""
        printed = self._apt(
            "depends",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
            name,
            tool="apt-cache",
        )
        return list(parse_depends(printed))

    def _downloaded(self, name: str) -> Path:
        found = sorted(self.packages.glob(f"{name}_*.deb"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise VirtualBoardError(
                f"apt did not fetch the package {name}", subject=self.packages, next_step=NEXT_STEP
            )
        return found[-1]

    def _configuration(self) -> str:
        settings = {
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures": ARCHITECTURE,
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "true",
            "Dir::State": f"{self.folder}/state",
            "Dir::State::lists": f"{self.folder}/state/lists",
            "Dir::State::status": f"{self.folder}/state/status",
            "Dir::Cache": f"{self.folder}/cache",
            "Dir::Cache::archives": f"{self.folder}/cache/archives",
            "Dir::Etc::main": "-",
            "Dir::Etc::parts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "Dir::Etc::sourcelist": f"{self.folder}/etc/sources.list",
            "Dir::Etc::sourceparts": "-",
        }
        own = [f'{key} "{value}";' for key, value in settings.items()]
        return "\n".join([*own, *_host_proxies()]) + "\n"

    def _apt(self, *arguments: str, tool: str = "apt-get") -> str:
        environment = {
            **os.environ,
            "APT_CONFIG": str(self.folder / "apt.conf"),
            "LC_ALL": "C.UTF-8",
        }
        done = subprocess.run(
            [tool, "-q", *arguments],
            cwd=self.packages,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode != 0:
            last = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-6:])
            raise VirtualBoardError(
                f"{tool} {arguments[0]} failed:\n  {last}", subject=self.folder, next_step=NEXT_STEP
            )
        return done.stdout


def _host_proxies() -> list[str]:
    """The host's own proxy settings, as lines of an apt.conf."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if line.startswith("Acquire::http")]


def source_line(source: DebianSource) -> str:
    """A line of a sources.list for boards' packages of one source."""
    keyring = source.signed_by or (str(KEYRING) if KEYRING.is_file() else None)
    options = {"signed_by": keyring} if keyring is not None else {}
    return source.line(arch=ARCHITECTURE, **options)


def parse_depends(printed: str) -> Iterator[str]:
    """Package names from what ``apt-cache depends`` printed; virtual ones are left out."""
    for line in printed.splitlines():
        kind, _, name = line.strip().lstrip("|").partition(": ")
        if kind in ("Depends", "PreDepends") and not name.startswith("<"):
            yield name.partition(":")[0]


def unpack(packages: Iterable[Path], folder: Path) -> None:
    """Unpack .deb files into one folder, as whoever we are; no maintainer script is run.

    Raises:
        VirtualBoardError: a package is damaged, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        done = subprocess.run(
            ["dpkg-deb", "--extract", str(package), str(folder)], capture_output=True, text=True
        )
        if done.returncode != 0:
            package.unlink(missing_ok=True)
            raise VirtualBoardError(
                f"cannot be unpacked: {done.stderr.strip()}",
                subject=package,
                next_step="it was deleted; run the same command again to fetch it anew",
            )
