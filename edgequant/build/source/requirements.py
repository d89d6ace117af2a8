"""What a llama.cpp tree must have for what is asked of it: looked up in its files, nothing is run.

llama.cpp renames functions and moves programs; a tree that lacks something is told so before
anything is compiled.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgequant.core.paths import data_folder

PROBE = "edgequant-probe"
PROGRAM_PREFIX = "llama-"
HEADER = "include/llama.h"
GGML_HEADER = "ggml/include/ggml.h"
TOOLS = "tools/CMakeLists.txt"
NEEDED_FILES = (
    "CMakeLists.txt",
    HEADER,
    GGML_HEADER,
    "src/CMakeLists.txt",
    "common/CMakeLists.txt",
    TOOLS,
    "convert_hf_to_gguf.py",
    # The converter runs with its own gguf-py: the one on the package index is older.
    "gguf-py/gguf/__init__.py",
)


@dataclass(frozen=True)
class ProbeNeeds:
    """What the probe takes from llama.cpp's headers."""

    names: frozenset[str]
    """Functions ``llama_...`` and constants ``GGML_TYPE_...``."""
    fields: frozenset[str]
    """Of ``llama_context_params``."""


@dataclass(frozen=True)
class Programs:
    """Programs by the names that a tree's CMake files give them."""

    names: frozenset[str]
    all_known: bool
    """False where a name is put together by CMake, so that there may be more."""


def missing(tree: Path, tools: Iterable[str]) -> list[str]:
    """What a llama.cpp lacks, each as half a sentence; nothing if it has all.

    Args:
        tree: root of the llama.cpp tree.
        tools: programs that are to be built, ``edgequant-probe`` among them or not.
    """
    wanted = sorted(set(tools))
    lacking = missing_files(tree)
    if PROBE in wanted:
        needs = probe_needs(probe_source().read_text(encoding="utf-8"))
        lacking += missing_for_probe(needs, _text(tree / HEADER), _text(tree / GGML_HEADER))
    programs = find_programs(tree)
    if programs.all_known and (tree / TOOLS).is_file():
        lacking += [
            f"the program {name}{_meant(name, programs.names)}"
            for name in wanted
            if name not in programs.names
        ]
    return lacking


def missing_files(tree: Path) -> list[str]:
    """The files that every build or conversion reads and a tree lacks."""
    return [name for name in NEEDED_FILES if not (tree / name).is_file()]


def probe_source() -> Path:
    """Where the probe's source lies."""
    return data_folder("toolchain") / "probe" / "probe.cpp"


def probe_needs(source: str) -> ProbeNeeds:
    """What a C++ source uses of llama.cpp's interface, by its words alone."""
    code = without_comments_and_strings(source)
    return ProbeNeeds(
        names=frozenset(re.findall(r"\b(?:llama_\w+(?=\()|GGML_TYPE_\w+)", code)),
        fields=frozenset(re.findall(r"\bcontext_params\.(\w+)", code)),
    )


def missing_for_probe(needs: ProbeNeeds, llama_h: str, ggml_h: str) -> list[str]:
    """What the probe needs and the headers lack, as half a sentence; nothing if they have all."""
    header = without_comments_and_strings(llama_h)
    struct = re.search(r"struct\s+llama_context_params\s*\{(.*?)\}", header, re.DOTALL)
    fields = _words(struct[1]) if struct is not None else set()
    lacking = sorted(needs.names - _words(header) - _words(without_comments_and_strings(ggml_h)))
    lacking += [f"llama_context_params.{field}" for field in sorted(needs.fields - fields)]
    if not lacking:
        return []
    return [f"{_listed(lacking)} in {HEADER} (the probe uses {_them(lacking)})"]


def _words(code: str) -> set[str]:
    return set(re.findall(r"\w+", code))


def find_programs(tree: Path) -> Programs:
    """What can be built: the probe, and the ``llama-...`` programs of a tree.

    They are read from the CMake files of ``tools/`` and of the tree's root. Programs with other
    names are helpers of llama.cpp's own build.
    """
    names = {PROBE}
    all_known = True
    files = [tree / "CMakeLists.txt", *sorted((tree / "tools").rglob("CMakeLists.txt"))]
    for file in files:
        found = programs_of(_text(file))
        names |= {name for name in found.names if name.startswith(PROGRAM_PREFIX)}
        all_known = all_known and found.all_known
    return Programs(frozenset(names), all_known)


def programs_of(cmake: str) -> Programs:
    """The programs of one CMake file: ``add_executable(NAME ...)``, or of ``set(TARGET NAME)``."""
    code = re.sub(r"#.*", "", cmake)
    names: set[str] = set()
    all_known = True
    variables: dict[str, str] = {}
    for command, first, second in re.findall(
        r"\b(set|add_executable)\s*\(\s*([^\s()]+)[ \t]*([^\s()]*)", code
    ):
        if command == "set":
            variables[first] = second
            continue
        name = re.sub(r"\$\{(\w+)\}", lambda m: variables.get(m[1], m[0]), first)
        if "$" in name:
            all_known = False
        else:
            names.add(name)
    return Programs(frozenset(names), all_known)


def without_comments_and_strings(code: str) -> str:
    """C or C++ without its comments and with empty strings: names in words are no names."""

    def kept(match: re.Match[str]) -> str:
        return '""' if match[0].startswith('"') else " "

    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
    return re.sub(pattern, kept, code, flags=re.DOTALL)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _meant(name: str, known: Iterable[str]) -> str:
    """The name that is closest, if one is close: what all names begin with says nothing."""
    ends = {program.partition("-")[2]: program for program in sorted(known)}
    close = difflib.get_close_matches(name.partition("-")[2], ends, n=1)
    return f" (did you mean {ends[close[0]]}?)" if close else ""


def _them(names: list[str]) -> str:
    return "it" if len(names) == 1 else "them"
