"""A board's profile: what somebody knows of it before it is asked.

What a profile leaves out is None, and found on the board by :mod:`edgequant.boards.facts`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgequant.core.errors import ProfileError
from edgequant.core.fields import (
    FilePath,
    Name,
    PositiveFloat,
    PositiveInt,
    RemotePath,
    Section,
    TimeoutSeconds,
    Word,
)
from edgequant.core.paths import cache_root, list_data_files
from edgequant.core.toml_file import read_toml_model, require_data_file

LatencySource = Literal["measured", "emulated"]
Clock = Literal["host", "instructions"]
"""What a board's time is: real time, or (a virtual board's) a nanosecond for each instruction."""


class BuildSection(Section):
    """What binaries for this board are built for."""

    target: Name
    """Name of a file in ``toolchain/targets/``."""


class CpuSection(Section):
    """The processor."""

    cores: PositiveInt | None = None
    threads: PositiveInt | None = None
    """Threads that models run with; by default one for each core."""
    clock_hz: PositiveFloat | None = None
    instructions_per_cycle: PositiveFloat | None = None
    """An assumption, for predictions alone."""


class MemorySection(Section):
    """Main memory."""

    ram_bytes: PositiveInt | None = None
    dram_bytes_per_second: PositiveFloat | None = None


class StorageSection(Section):
    """Where models lie."""

    bytes_per_second: PositiveFloat | None = None
    """Sequential reading."""


class SshSection(Section):
    """How the board is reached, and where our files go on it."""

    host: Word = "127.0.0.1"
    """Name, address, or an alias of the user's own SSH configuration."""
    port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    user: Word | None = None
    identity_file: FilePath | None = None
    known_hosts_file: FilePath | None = None
    """By default the user's own, ``~/.ssh/known_hosts``."""
    remote_folder: RemotePath = "edgequant"
    """Relative ones start at the user's home on the board."""
    connect_timeout_seconds: TimeoutSeconds = 15.0


class VirtualSection(Section):
    """How qemu plays the board."""

    cpu: str = "cortex-a76"
    server: Literal["sshd", "dropbear"] = "sshd"
    disk_bytes: PositiveInt = 2 << 30
    """Size of the data disk; sparse, so only what is used takes space here."""
    compatible: str = "rockchip,rk3568"
    model: str = "edgequant virtual board (qemu virt, RK3568 class)"
    storage_bytes_per_second: PositiveInt | None = None
    """Throttles the data disk's reads."""


class LocalSection(Section):
    """A board that is this very machine."""

    folder: FilePath | None = None
    """By default a folder in the cache."""


class BoardProfile(Section):
    """One board."""

    name: Name
    """By default the file's name without its suffix."""
    description: str = ""
    kind: Literal["ssh", "local", "virtual"] = "ssh"
    build: BuildSection
    cpu: CpuSection = CpuSection()
    memory: MemorySection = MemorySection()
    storage: StorageSection = StorageSection()
    ssh: SshSection = SshSection()
    virtual: VirtualSection = VirtualSection()
    local: LocalSection = LocalSection()

    @model_validator(mode="after")
    def _sections_fit_kind(self) -> BoardProfile:
        for section, kind in (("virtual", "virtual"), ("local", "local")):
            if section in self.model_fields_set and self.kind != kind:
                raise ValueError(f"the section [{section}] needs kind = {kind!r}")
        if self.kind == "ssh" and "host" not in self.ssh.model_fields_set:
            raise ValueError("ssh.host is missing: the board's name or address")
        return self

    @property
    def latency_source(self) -> LatencySource:
        """How times read on this board are labelled."""
        return "emulated" if self.kind == "virtual" else "measured"

    @property
    def remote_folder(self) -> str:
        """Where our files go on the board."""
        if self.kind == "local":
            return str(self.local.folder or cache_root() / "local" / self.name)
        return self.ssh.remote_folder

    @property
    def threads(self) -> int | None:
        """Threads that models run with, where the profile tells."""
        return self.cpu.threads or self.cpu.cores


def load_profile(name_or_path: str) -> BoardProfile:
    """Read a profile.

    Args:
        name_or_path: a path, or the bare name of a file in ``boards/``.

    Raises:
        ProfileError: no such profile, not TOML, or a wrong or missing key.
    """
    path = require_data_file("boards", name_or_path, what="board profile", error=ProfileError)
    return read_toml_model(
        path,
        BoardProfile,
        error=ProfileError,
        next_step="see docs/verbs/board.md for every key",
        defaults={"name": path.stem},
    )


def list_profiles() -> dict[str, BoardProfile]:
    """Every profile by name.

    Raises:
        ProfileError: one of them is invalid.
    """
    return {name: load_profile(str(path)) for name, path in list_data_files("boards").items()}
