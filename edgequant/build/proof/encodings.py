"""Which extension of the 64-bit ARM instruction set an instruction belongs to.

Pure: instructions are 32-bit numbers. Named are the extensions that a compiler uses for a board;
what is not named here is either part of the first edition of ARMv8 or of an extension that
llama.cpp has no use for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy

FLAG_EXECUTABLE = 0x4

# From which edition of ARMv8 an extension is in every processor.
LEVELS: Mapping[int, tuple[str, ...]] = {
    1: ("lse", "rdm", "crc"),
    3: ("rcpc",),
    4: ("dotprod", "rcpc2"),
    6: ("bf16", "i8mm"),
    8: ("mops",),
}


class Encoding(NamedTuple):
    """Instructions that agree with ``value`` in the bits of ``mask``."""

    mask: int
    value: int
    name: str
    """Of the instruction, or of a group of them."""
    extension: str | None
    """None: part of the first edition of ARMv8."""


# The first that agrees counts.
ENCODINGS: tuple[Encoding, ...] = (
    # Dot products of bytes.
    Encoding(0xBFE0FC00, 0x0E809400, "sdot", "dotprod"),
    Encoding(0xBFE0FC00, 0x2E809400, "udot", "dotprod"),
    Encoding(0xBFC0F400, 0x0F80E000, "sdot", "dotprod"),
    Encoding(0xBFC0F400, 0x2F80E000, "udot", "dotprod"),
    # Products of matrices of bytes.
    Encoding(0xFFE0FC00, 0x4E80A400, "smmla", "i8mm"),
    Encoding(0xFFE0FC00, 0x6E80A400, "ummla", "i8mm"),
    Encoding(0xFFE0FC00, 0x4E80AC00, "usmmla", "i8mm"),
    Encoding(0xBFE0FC00, 0x0E809C00, "usdot", "i8mm"),
    Encoding(0xBFC0F400, 0x0F80F000, "usdot", "i8mm"),
    Encoding(0xBFC0F400, 0x0F00F000, "sudot", "i8mm"),
    # bfloat16.
    Encoding(0xBFE0FC00, 0x2E40FC00, "bfdot", "bf16"),
    Encoding(0xBFC0F400, 0x0F40F000, "bfdot", "bf16"),
    Encoding(0xFFE0FC00, 0x6E40EC00, "bfmmla", "bf16"),
    Encoding(0xBFE0FC00, 0x2EC0FC00, "bfmlal", "bf16"),
    Encoding(0xBFC0F400, 0x0FC0F000, "bfmlal", "bf16"),
    Encoding(0xFFFFFC00, 0x1E634000, "bfcvt", "bf16"),
    Encoding(0xBFFFFC00, 0x0EA16800, "bfcvtn", "bf16"),
    # Arithmetic in half precision. Converting from and to it is older.
    Encoding(0xFFFFFC00, 0x1EE24000, "fcvt", None),
    Encoding(0xFFFFFC00, 0x1EE2C000, "fcvt", None),
    Encoding(0x7FC00000, 0x1EC00000, "half-precision scalar", "fp16"),
    Encoding(0xFFC00000, 0x1FC00000, "fmadd", "fp16"),
    Encoding(0x9F60C400, 0x0E400400, "half-precision vector", "fp16"),
    Encoding(0xDF60C400, 0x5E400400, "half-precision scalar", "fp16"),
    Encoding(0x9F7E0C00, 0x0E780800, "half-precision vector", "fp16"),
    Encoding(0xDF7E0C00, 0x5E780800, "half-precision scalar", "fp16"),
    Encoding(0xBF7FFC00, 0x0E30C800, "fmaxnmv", "fp16"),
    Encoding(0xBF7FFC00, 0x0E30F800, "fmaxv", "fp16"),
    Encoding(0xBFC0F400, 0x0F001000, "fmla", "fp16"),
    Encoding(0xBFC0F400, 0x0F005000, "fmls", "fp16"),
    Encoding(0x9FC0F400, 0x0F009000, "fmul", "fp16"),
    Encoding(0xFFC0F400, 0x5F001000, "fmla", "fp16"),
    Encoding(0xFFC0F400, 0x5F005000, "fmls", "fp16"),
    Encoding(0xDFC0F400, 0x5F009000, "fmul", "fp16"),
    Encoding(0xBFF8FC00, 0x0F00FC00, "fmov", "fp16"),
    Encoding(0x9FF0FC00, 0x0F10E400, "scvtf", "fp16"),
    Encoding(0x9FF0FC00, 0x0F10FC00, "fcvtzs", "fp16"),
    Encoding(0xBF60FC00, 0x0E20EC00, "fmlal", "fp16fml"),
    Encoding(0xBF60FC00, 0x2E20CC00, "fmlal2", "fp16fml"),
    Encoding(0xBFC0B400, 0x0F800000, "fmlal", "fp16fml"),
    Encoding(0xBFC0B400, 0x2F808000, "fmlal2", "fp16fml"),
    # Scalable vectors and matrices: whole regions of the encoding space.
    Encoding(0x1E000000, 0x04000000, "scalable vector", "sve"),
    Encoding(0x9E000000, 0x80000000, "scalable matrix", "sme"),
    # Atomic operations in one instruction.
    Encoding(0x3FA07C00, 0x08A07C00, "cas", "lse"),
    Encoding(0xBFA07C00, 0x08207C00, "casp", "lse"),
    Encoding(0x3F208C00, 0x38200000, "ldadd", "lse"),
    Encoding(0x3F20FC00, 0x38208000, "swp", "lse"),
    Encoding(0x3FFFFC00, 0x38BFC000, "ldapr", "rcpc"),
    Encoding(0x3F200C00, 0x19000000, "ldapur", "rcpc2"),
    # Rounding doubling multiplication.
    Encoding(0xBF20FC00, 0x2E008400, "sqrdmlah", "rdm"),
    Encoding(0xBF20FC00, 0x2E008C00, "sqrdmlsh", "rdm"),
    Encoding(0xFF20FC00, 0x7E008400, "sqrdmlah", "rdm"),
    Encoding(0xFF20FC00, 0x7E008C00, "sqrdmlsh", "rdm"),
    Encoding(0xAF00F400, 0x2F00D000, "sqrdmlah", "rdm"),
    Encoding(0xAF00F400, 0x2F00F000, "sqrdmlsh", "rdm"),
    # Cryptography and checksums.
    Encoding(0xFFFF0C00, 0x4E280800, "aese", "crypto"),
    Encoding(0xBFE0FC00, 0x0EE0E000, "pmull", "crypto"),
    Encoding(0xFFFF0C00, 0x5E280800, "sha1h", "crypto"),
    Encoding(0xFFE08C00, 0x5E000000, "sha256h", "crypto"),
    Encoding(0x7FE0E000, 0x1AC04000, "crc32", "crc"),
    # Copying and filling memory: in C libraries, behind a check at run time.
    Encoding(0x3B200C00, 0x19000400, "cpy", "mops"),
)


def find_encoding(word: int) -> Encoding | None:
    """What is known of an instruction; None where it is of no extension."""
    for encoding in ENCODINGS:
        if word & encoding.mask == encoding.value:
            return encoding if encoding.extension is not None else None
    return None


def instruction_extension(word: int) -> str | None:
    """The extension that an instruction needs (``dotprod``), or None for any 64-bit ARM's.

    Args:
        word: the instruction, 32 bits.
    """
    found = find_encoding(word)
    return None if found is None else found.extension


def describe_instruction(word: int) -> str:
    """An instruction in words: ``sdot (dotprod)``; its number where nothing is known of it."""
    found = find_encoding(word)
    return f"0x{word:08x}" if found is None else f"{found.name} ({found.extension})"


def count_extensions(words: numpy.ndarray) -> dict[str, int]:
    """How many instructions need each extension, of an array of 32-bit numbers."""
    counts: dict[str, int] = {}
    for mask, value, _, extension in ENCODINGS:
        hits = (words & mask) == value
        count = int(hits.sum())
        if count:
            # What has been found is not looked at again: the first that agrees counts.
            words = words[~hits]
            if extension is not None:
                counts[extension] = counts.get(extension, 0) + count
    return dict(sorted(counts.items()))


def unpromised(counts: Mapping[str, int], isa: Iterable[str]) -> dict[str, int]:
    """Of the extensions that were counted, those that a target does not promise.

    Worth a look, not a fault: see :func:`scan_extensions`.

    Args:
        counts: extension to how many instructions need it.
        isa: the target's instruction set in words: ``armv8.2-a``, ``dotprod``.
    """
    promised = set(isa)
    for word in isa:
        level = re.fullmatch(r"armv8\.(\d)-a", word)
        if level is not None:
            for since, extensions in LEVELS.items():
                promised |= set(extensions) if int(level[1]) >= since else set()
    return {name: count for name, count in counts.items() if name not in promised}


def scan_extensions(path: Path) -> dict[str, int]:
    """How many instructions in a program's code need each extension.

    A fact, not a fault: a C library may have code for better processors behind a check at run
    time, and a constant between two functions may look like an instruction.

    Args:
        path: an ELF file for 64-bit ARM.

    Raises:
        AuditError: it is missing, or no ELF file.
    """
    import numpy

    counts: dict[str, int] = {}
    for code in _code(path):
        words = numpy.frombuffer(code[: len(code) // 4 * 4], dtype="<u4")
        for extension, count in count_extensions(words).items():
            counts[extension] = counts.get(extension, 0) + count
    return dict(sorted(counts.items()))


def instruction_at(path: Path, address: int) -> int | None:
    """The 32 bits that a program has at an address of its code; None where it has none.

    Args:
        path: an ELF file, of any kind: what is none has no code.
        address: as the file's own headers count; a program that is loaded elsewhere is not found.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            for segment in ELFFile(stream).iter_segments():
                inside = address - segment["p_vaddr"]
                executable = segment["p_type"] == "PT_LOAD" and segment["p_flags"] & 1
                if executable and 0 <= inside <= segment["p_filesz"] - 4:
                    return int.from_bytes(segment.data()[inside : inside + 4], "little")
    except (OSError, ELFError, UnicodeDecodeError):
        return None
    return None


def _code(path: Path) -> Iterator[bytes]:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    from edgequant.core.errors import AuditError

    try:
        with path.open("rb") as stream:
            for section in ELFFile(stream).iter_sections():
                if section["sh_type"] == "SHT_PROGBITS" and section["sh_flags"] & FLAG_EXECUTABLE:
                    yield bytes(section.data())
    except FileNotFoundError:
        raise AuditError("was not built", subject=path) from None
    except (ELFError, UnicodeDecodeError) as error:
        raise AuditError(f"is not a whole ELF file: {error}", subject=path) from error
