"""Is a built binary what the board needs? Read from its ELF headers and code, nothing is run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgequant.core.errors import AuditError

# What e_machine is called in pyelftools' words.
MACHINES: Mapping[str, str] = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64"}
EXECUTABLE_FLAG = 1


@dataclass(frozen=True)
class ElfFacts:
    """What an ELF file's headers say."""

    machine: str
    interpreter: str | None
    """Program that the kernel starts first: a dynamic linker, or None."""
    needed: tuple[str, ...]
    """Shared libraries it cannot start without."""
    stripped: bool
    executable_stack: bool
    bytes: int

    @property
    def static(self) -> bool:
        return self.interpreter is None and not self.needed

    def as_dict(self) -> dict[str, object]:
        """The facts as plain values, for a manifest."""
        return {**asdict(self), "needed": list(self.needed), "static": self.static}


def read_elf(path: Path) -> ElfFacts:
    """Read an ELF file's headers.

    Raises:
        AuditError: it is missing or not an ELF file.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            interpreter: str | None = None
            needed: list[str] = []
            # A file without PT_GNU_STACK gets an executable stack from old kernels.
            executable_stack = True
            for segment in elf.iter_segments():
                kind = segment["p_type"]
                if kind == "PT_INTERP":
                    interpreter = str(segment.get_interp_name())
                elif kind == "PT_DYNAMIC":
                    needed += [str(t.needed) for t in segment.iter_tags("DT_NEEDED")]
                elif kind == "PT_GNU_STACK":
                    executable_stack = bool(segment["p_flags"] & EXECUTABLE_FLAG)
            sections = [section.name for section in elf.iter_sections()]
            machine = elf["e_machine"]
    except FileNotFoundError:
        raise AuditError("was not built", subject=path) from None
    except (ELFError, UnicodeDecodeError) as error:
        raise AuditError(f"is not a whole ELF file: {error}", subject=path) from error
    return ElfFacts(
        machine=MACHINES.get(str(machine), str(machine)),
        interpreter=interpreter,
        needed=tuple(needed),
        stripped=not any(n == ".symtab" or n.startswith(".debug") for n in sections),
        executable_stack=executable_stack,
        bytes=path.stat().st_size,
    )


def find_faults(facts: ElfFacts, *, architecture: str, static: bool) -> list[str]:
    """What is wrong with a binary, each as half a sentence; nothing if it is as it should be.

    Args:
        facts: what its headers say.
        architecture: ``aarch64``, ``x86_64``.
        static: whether it must run without an interpreter and libraries.
    """
    faults: list[str] = []
    if facts.machine != architecture:
        faults.append(f"is for {facts.machine}, not {architecture}")
    if static and facts.interpreter is not None:
        faults.append(f"needs the interpreter {facts.interpreter}")
    if static and facts.needed:
        faults.append(f"needs the libraries {', '.join(facts.needed)}")
    if facts.executable_stack:
        faults.append("has an executable stack")
    if not facts.stripped:
        faults.append("is not stripped")
    return faults


def find_folders(path: Path, folders: Sequence[Path]) -> list[str]:
    """The folders whose names are inside a binary: it would be another one if built elsewhere."""
    data = path.read_bytes()
    # A short one such as /src is part of many longer, harmless names.
    return [
        str(folder)
        for folder in folders
        if re.search(rb"(?<![\w./-])" + re.escape(os.fsencode(folder)) + rb"/", data)
    ]


def code_facts(path: Path, isa: Sequence[str]) -> dict[str, object]:
    """How many instructions of each extension an ARM program has, for a manifest.

    ``unpromised`` are those of extensions that the target does not promise. They are worth a look
    and no fault: a C library chooses some of its code when it runs, and a constant between two
    functions can look like an instruction. Running the program shows what it really uses.

    Args:
        path: an ELF file for ``aarch64``.
        isa: the target's instruction set in words.

    Raises:
        AuditError: it is missing, or no ELF file.
    """
    from edgequant.build.proof.encodings import scan_extensions, unpromised

    counts = scan_extensions(path)
    return {"extensions": counts, "unpromised": unpromised(counts, isa)}


def audit(path: Path, *, architecture: str, static: bool, folders: Sequence[Path] = ()) -> ElfFacts:
    """Read a binary's headers and insist that they are as the target needs.

    Args:
        path: the binary.
        architecture: ``aarch64``, ``x86_64``.
        static: whether it must run without an interpreter and libraries.
        folders: of this machine, whose names must not be inside it.

    Raises:
        AuditError: it is not; the message names every fault.
    """
    facts = read_elf(path)
    faults = find_faults(facts, architecture=architecture, static=static)
    faults += [f"has the name of a folder in it: {name}" for name in find_folders(path, folders)]
    if faults:
        raise AuditError(
            f"{'; '.join(faults)}",
            subject=path.name,
            next_step="this is an error in the target's flags: the binary was not kept",
        )
    return facts
