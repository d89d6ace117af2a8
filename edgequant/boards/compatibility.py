"""Whether a program can run on a board's CPU, before it dies there of an illegal instruction."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from edgequant.boards.facts import BoardFacts
from edgequant.boards.profile import BoardProfile
from edgequant.core.errors import AuditError, EdgequantError

# Word of a target's isa list to the features that the kernel must show for it.
ISA_FEATURES = {
    "dotprod": ("asimddp",),
    "fp16": ("fphp", "asimdhp"),
    "i8mm": ("i8mm",),
    "bf16": ("bf16",),
    "sve": ("sve",),
    "sve2": ("sve2",),
    "sme": ("sme",),
    "lse": ("atomics",),
    "crypto": ("aes", "pmull"),
    "armv8.1-a": ("atomics", "asimdrdm"),
    "armv8.2-a": ("atomics", "asimdrdm"),
}
# ELF's e_machine to what `uname -m` says.
MACHINES = {
    183: ("aarch64", "arm64"),
    62: ("x86_64", "amd64"),
    40: ("armv7l", "armv6l", "armv8l", "arm"),
    3: ("i386", "i686"),
    243: ("riscv64",),
}
EI_CLASS_64 = 2


def elf_machine(path: Path) -> int | None:
    """ELF's machine number of a file; None where it is not an ELF file."""
    with path.open("rb") as stream:
        header = stream.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    order = "<" if header[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", header, 18)
    return int(machine)


def missing_features(isa: Iterable[str], flags: Iterable[str]) -> list[str]:
    """Kernel feature names that an ISA level needs and a CPU lacks."""
    have = set(flags)
    return [
        feature for word in isa for feature in ISA_FEATURES.get(word, ()) if feature not in have
    ]


def check_binaries(programs: Iterable[Path], facts: BoardFacts, profile: BoardProfile) -> None:
    """Compare programs with a board's CPU.

    The ISA level is that of the profile's build target; a script is not checked.

    Raises:
        AuditError: a program is for another architecture, or needs what the CPU lacks.
    """
    isa: list[str] | None = None
    for path in programs:
        machine = elf_machine(path)
        if machine is None:
            continue
        names = MACHINES.get(machine, (f"machine {machine}",))
        if facts.architecture not in names:
            raise AuditError(
                f"is built for {names[0]}, the board {facts.board} is {facts.architecture}",
                subject=path,
                next_step=f"edgequant build --target {profile.build.target}",
            )
        if isa is None:
            isa = _target_isa(profile)
        lacking = missing_features(isa, facts.isa_flags)
        if lacking:
            raise AuditError(
                f"is built for {profile.build.target}, and the CPU of {facts.board} "
                f"({', '.join(facts.cpu_parts) or 'unknown'}) lacks {', '.join(lacking)}: it would "
                "die of an illegal instruction",
                subject=path,
                next_step="set build.target in the profile to an older level (armv8-a runs "
                "on every 64-bit ARM), and build again",
            )


def _target_isa(profile: BoardProfile) -> list[str]:
    from edgequant.build.targets.target import load_target

    try:
        return list(load_target(profile.build.target).isa)
    except EdgequantError:
        return []
