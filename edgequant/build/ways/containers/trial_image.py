"""An image so small that every engine can try it: one program, which does nothing."""

from __future__ import annotations

import platform
import struct
from collections.abc import Mapping
from pathlib import Path

# What exits with status 0, in machine code, and the ELF number of the machine.
PROGRAMS: Mapping[str, tuple[int, str]] = {
    # mov eax, 60; xor edi, edi; syscall
    "x86_64": (62, "b83c00000031ff0f05"),
    # mov x8, 93; mov x0, 0; svc 0
    "aarch64": (183, "a80b8052000080d2010000d4"),
}
DOCKERFILE = """\
FROM scratch AS tried
COPY nothing /nothing
RUN ["/nothing"]
FROM scratch
COPY --from=tried /nothing /
"""
ADDRESS = 0x400000
HEADERS_BYTES = 64 + 56


def program_that_does_nothing(machine: str) -> bytes | None:
    """A static ELF program that ends at once with status 0, or None for an unknown machine."""
    if machine not in PROGRAMS:
        return None
    number, code_hex = PROGRAMS[machine]
    code = bytes.fromhex(code_hex)
    size = HEADERS_BYTES + len(code)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, number, 1, ADDRESS + HEADERS_BYTES, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    readable_and_executable = 5
    segment = struct.pack(
        "<IIQQQQQQ", 1, readable_and_executable, 0, ADDRESS, ADDRESS, size, size, 0x1000
    )
    return identification + header + segment + code


def write_trial(folder: Path) -> Path:
    """Write the image's Dockerfile and program; returns the Dockerfile."""
    folder.mkdir(parents=True, exist_ok=True)
    program = program_that_does_nothing(platform.machine())
    dockerfile = folder / "Dockerfile"
    if program is None:
        # Without a program at least storage and output are tried.
        dockerfile.write_text("FROM scratch\nCOPY Dockerfile /nothing\n", encoding="ascii")
        return dockerfile
    (folder / "nothing").write_bytes(program)
    (folder / "nothing").chmod(0o755)
    dockerfile.write_text(DOCKERFILE, encoding="ascii")
    return dockerfile
