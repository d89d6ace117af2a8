"""Build targets: one data file each, ``toolchain/targets/NAME.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from edgequant.core.errors import TargetError
from edgequant.core.fields import Name, Section
from edgequant.core.paths import find_data_file, list_data_files
from edgequant.core.toml_file import read_toml, read_toml_model

HOST = "host"
TARGETS_KIND = "toolchain/targets"


class ZigSettings(Section):
    """What zig's clang is told for a target."""

    target: str | None = None
    """Target triple, e.g. ``aarch64-linux-musl``; None for this machine."""
    flags: tuple[str, ...] = ()


class GccSettings(Section):
    """What gcc is told for a target."""

    flags: tuple[str, ...] = ()
    """Empty: gcc cannot build for it (``host`` needs none)."""


class QemuSettings(Section):
    """The CPUs that qemu-user plays to try a target's binaries."""

    cpu: str | None = None
    """Has all that the target needs and little more; None: its binaries are not tried."""
    lacking_cpu: str | None = None
    """Lacks it: binaries that use what the target promises die there; None if there is none."""


class Target(Section):
    """A kind of machine to build for."""

    name: Name
    """By default the file's name without its suffix."""
    description: str
    architecture: Literal["aarch64", "native"]
    isa: tuple[str, ...]
    """Instruction set level and extensions, e.g. ``armv8.2-a``, ``dotprod``."""
    linkage: Literal["static", "shared"]
    """``static``: no interpreter and no libraries needed; ``shared``: libllama.so beside it."""
    on_request: bool = False
    """Never chosen for a board by what its CPU can do, only by name."""
    tools: tuple[str, ...] = Field(min_length=1)
    """Built when nothing else is asked for."""
    cmake: dict[str, str | bool] = Field(default={})
    """CMake options on top of the common ones."""
    zig: ZigSettings = ZigSettings()
    gcc: GccSettings = GccSettings()
    qemu: QemuSettings = QemuSettings()

    @property
    def is_host(self) -> bool:
        return self.architecture == "native"


def target_names() -> list[str]:
    """Names of all targets there are data files for."""
    return sorted(list_data_files(TARGETS_KIND))


def load_target(name: str) -> Target:
    """A target by its own name, or by the name of a board that says which one it needs.

    Raises:
        TargetError: neither a target nor a board has that name, or its file is invalid.
    """
    path = find_data_file(TARGETS_KIND, name)
    if path is None:
        board = find_data_file("boards", name)
        if board is None:
            raise TargetError(
                f"no build target or board is called {name!r}",
                next_step=f"use one of the targets {', '.join(target_names())}" + _boards_hint(),
            )
        wanted = _target_of_board(board)
        path = find_data_file(TARGETS_KIND, wanted)
        if path is None:
            raise TargetError(
                f"[build] target {wanted!r} is no known target",
                subject=board,
                next_step=f"use one of {', '.join(target_names())}",
            )
    return read_toml_model(path, Target, error=TargetError, defaults={"name": path.stem})


def _boards_hint() -> str:
    boards = sorted(list_data_files("boards"))
    return f", or one of the boards {', '.join(boards)}" if boards else ""


def _target_of_board(path: Path) -> str:
    build = read_toml(path, error=TargetError).get("build", {})
    wanted = build.get("target") if isinstance(build, dict) else None
    if not isinstance(wanted, str):
        raise TargetError(
            "does not say what to build for",
            subject=path,
            next_step="add a [build] table with target = "
            + " or ".join(f'"{name}"' for name in target_names()),
        )
    return wanted
