"""Words of instruction sets: a target's file names them, the kernel shows features for them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from edgequant.build.targets.target import Target

# Every 64-bit ARM has it, so it needs no feature of the kernel's.
BASE_LEVEL = "armv8-a"
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


def features(target: Target) -> frozenset[str] | None:
    """Names of the kernel's features that a CPU needs for a target.

    None where the target's file has a word that nobody knows the features of, as for ``host``.
    """
    known = {BASE_LEVEL: (), **ISA_FEATURES}
    if any(word not in known for word in target.isa):
        return None
    return frozenset(feature for word in target.isa for feature in known[word])
