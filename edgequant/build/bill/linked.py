"""What is linked into each program: others' code in llama.cpp's tree, and the compiler's libraries.

Which of it went into a program is read from ninja's own records of what it compiled, not assumed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os.path
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgequant.core.errors import BuildError
from edgequant.core.paths import PACKAGE_FOLDER
from edgequant.core.process import run_captured

QUERY_SECONDS = 120
PUBLIC_DOMAIN = "Public domain"
"""No licence that SPDX has a name for."""


@dataclass(frozen=True)
class LicenceText:
    """Where a licence's text stands."""

    file: str | tuple[str, ...]
    """Relative to the folder it is looked for in, ``*`` for any words; the first there is."""
    start: str | None = None
    """Regular expression that the text begins with; None: the file's begin."""
    end: str | None = None
    """Regular expression that the text ends before; None: the file's end."""


@dataclass(frozen=True)
class Part:
    """A piece of somebody's code that can be inside a program."""

    name: str
    licence: str
    """SPDX expression, or :data:`PUBLIC_DOMAIN`."""
    places: tuple[str, ...]
    """Files (or folders, with a slash at the end) in the tree: one of them was compiled in."""
    texts: tuple[LicenceText, ...]
    version: tuple[str | tuple[str, ...], str] | None = None
    """A file (of several, the first there is), and a regular expression whose groups, joined by
    dots, are the version."""
    purl: str | None = None
    """Package URL; ``{version}`` stands for the version."""
    note: str | None = None


_C_COMMENT = r"\*/"

PARTS: tuple[Part, ...] = (
    Part(
        "cpp-httplib",
        "MIT",
        ("vendor/cpp-httplib/",),
        (LicenceText("vendor/cpp-httplib/LICENSE"),),
        ("vendor/cpp-httplib/httplib.h", r'define CPPHTTPLIB_VERSION "([^"]+)"'),
        "pkg:github/yhirose/cpp-httplib@v{version}",
    ),
    Part(
        "nlohmann-json",
        "MIT",
        ("vendor/nlohmann/",),
        (LicenceText("licenses/LICENSE-jsonhpp"),),
        (
            "vendor/nlohmann/json.hpp",
            r"VERSION_MAJOR (\d+)[\s\S]*?VERSION_MINOR (\d+)[\s\S]*?VERSION_PATCH (\d+)",
        ),
        "pkg:github/nlohmann/json@v{version}",
    ),
    Part(
        "subprocess.h",
        "Unlicense",
        ("vendor/sheredom/subprocess.h",),
        (LicenceText("vendor/sheredom/subprocess.h", r"This is free and unenc", _C_COMMENT),),
        purl="pkg:github/sheredom/subprocess.h",
    ),
    Part(
        "miniaudio",
        "Unlicense OR MIT-0",
        ("vendor/miniaudio/",),
        (
            LicenceText(
                "vendor/miniaudio/miniaudio.h", r"This software is available as a ch", _C_COMMENT
            ),
        ),
        ("vendor/miniaudio/miniaudio.h", r"miniaudio - v([\d.]+)"),
        "pkg:github/mackron/miniaudio@{version}",
    ),
    Part(
        "stb_image",
        "MIT OR Unlicense",
        ("vendor/stb/",),
        (LicenceText("vendor/stb/stb_image.h", r"This software is available under 2", _C_COMMENT),),
        ("vendor/stb/stb_image.h", r"stb_image - v([\d.]+)"),
        "pkg:github/nothings/stb",
    ),
    Part(
        "xxhash",
        "BSD-2-Clause",
        ("vendor/hash/xxhash/",),
        (LicenceText("vendor/hash/xxhash/LICENSE"),),
        (
            "vendor/hash/xxhash/xxhash.h",
            r"XXH_VERSION_MAJOR +(\d+)\s[\s\S]*?VERSION_MINOR +(\d+)\s[\s\S]*?_RELEASE +(\d+)\s",
        ),
        "pkg:github/Cyan4973/xxHash@v{version}",
    ),
    Part(
        "sha256 by Igor Pavlov",
        PUBLIC_DOMAIN,
        ("vendor/hash/sha256/",),
        (LicenceText("vendor/hash/sha256/LICENSE"),),
    ),
    Part(
        "sha1 by Steve Reid",
        PUBLIC_DOMAIN,
        ("vendor/hash/sha1/",),
        (LicenceText("vendor/hash/sha1/sha1.h", r"SHA-1 in C", _C_COMMENT),),
    ),
    Part(
        "rotate-bits",
        "MIT",
        ("vendor/hash/rotate-bits/",),
        (LicenceText("vendor/hash/rotate-bits/LICENSE.md"),),
    ),
    Part(
        "base64.hpp",
        "Unlicense",
        ("common/base64.hpp",),
        (LicenceText("common/base64.hpp", r"This is free and unenc", _C_COMMENT),),
    ),
    Part(
        "tinyBLAS of llamafile",
        "MIT",
        ("ggml/src/ggml-cpu/llamafile/",),
        (LicenceText("ggml/src/ggml-cpu/llamafile/sgemm.cpp", r"// Copyright", r"\n\n"),),
    ),
)
"""Others' code in the tree. A folder of ``vendor/`` that no part names is reported all the same."""

LLAMA_CPP = Part(
    "llama.cpp",
    "MIT",
    ("src/", "common/", "tools/", "include/"),
    (LicenceText("LICENSE"),),
    purl="pkg:github/ggml-org/llama.cpp@{version}",
)
GGML = Part(
    "ggml",
    "MIT",
    ("ggml/",),
    (
        LicenceText("LICENSE"),
        # Named in a comment only; its terms are those of the file above.
        LicenceText("ggml/src/ggml-cpu/ops.cpp", r"// YaRN algorithm based on", r"static void"),
    ),
    (
        "ggml/CMakeLists.txt",
        r"VERSION_MAJOR (\d+)\)[\s\S]*?VERSION_MINOR (\d+)\)[\s\S]*?VERSION_PATCH (\d+)\)",
    ),
    purl="pkg:github/ggml-org/ggml@v{version}",
)

_LLVM = "Apache-2.0 WITH LLVM-exception"
_LLVM_VERSION = ("lib/libcxx/include/__config", r"define _LIBCPP_VERSION (\d\d)(\d\d)(\d\d)")


def _of_llvm(name: str) -> Part:
    return Part(name, _LLVM, (), (LicenceText(f"lib/{name}/LICENSE.TXT"),), _LLVM_VERSION)


ZIG_RUNTIME = Part(
    "zig's compiler_rt and libc",
    "MIT",
    (),
    (LicenceText("LICENSE"),),
    purl="pkg:pypi/ziglang@{version}",
    note="helpers that the compiler calls, and those functions of the C library that zig has "
    "written anew",
)
MUSL = Part(
    "musl",
    "MIT",
    (),
    (LicenceText("lib/libc/musl/COPYRIGHT"),),
    ("lib/libc/musl/src/internal/version.h", r'VERSION "([^"]+)"'),
    note="a few files are under other permissive licences, which its text lists",
)
LLVM_RUNTIME = (_of_llvm("libcxx"), _of_llvm("libcxxabi"), _of_llvm("libunwind"))

GLIBC = Part(
    "glibc",
    "LGPL-2.1-or-later",
    (),
    (
        LicenceText(("usr/share/doc/libc6-arm64-cross/copyright", "usr/share/doc/libc6/copyright")),
        LicenceText("usr/share/common-licenses/LGPL-2.1"),
    ),
    (
        ("usr/aarch64-linux-gnu/include/features.h", "usr/include/features.h"),
        r"define\s+__GLIBC__\s+(\d+)[\s\S]*?define\s+__GLIBC_MINOR__\s+(\d+)",
    ),
    note="linked statically: who passes these programs on must let the receiver relink them with "
    "a changed glibc (LGPL-2.1, section 6), for example by offering the object files, or the "
    "sources and this build's recipe, which edgequant has",
)
GCC_RUNTIME = Part(
    "libstdc++ and libgcc",
    "GPL-3.0-or-later WITH GCC-exception-3.1",
    (),
    (
        LicenceText(
            (
                "usr/share/doc/gcc-*-aarch64-linux-gnu-base/copyright",
                "usr/share/doc/gcc-*-base/copyright",
            )
        ),
        LicenceText("usr/share/common-licenses/GPL-3"),
    ),
    note="the exception lets programs that gcc compiled be passed on under any terms",
)


def runtime_parts(compiler: str, *, linkage: str) -> tuple[Part, ...]:
    """The compiler's own libraries that are inside every program.

    Args:
        compiler: ``zig``, ``gcc`` or ``container``.
        linkage: ``static``, or ``shared`` for a build for this machine.
    """
    if compiler == "zig":
        return (*LLVM_RUNTIME, ZIG_RUNTIME, *((MUSL,) if linkage == "static" else ()))
    # A build for this machine takes all of these from the system when it starts.
    return (GLIBC, GCC_RUNTIME) if linkage == "static" else ()


def files_of_programs(
    ninja: Path, build: Path, programs: Sequence[str], tree: Path
) -> dict[str, set[str]]:
    """The files of the source tree that were compiled for each program, headers included.

    Args:
        ninja: the program of that name.
        build: folder that was compiled in.
        programs: names of what it made in its ``bin``.
        tree: root of llama.cpp.

    Returns:
        Program to paths relative to the tree. Some of them lie in libraries of which the linker
        may have taken only a part.

    Raises:
        BuildError: ninja does not answer.
    """
    inputs = {name: _ask(ninja, build, "inputs", f"bin/{name}") for name in programs}
    deps = _ask(ninja, build, "deps")
    return files_from_records(inputs, deps, build=str(build.resolve()), tree=str(tree.resolve()))


def files_from_records(
    inputs: Mapping[str, str], deps: str, *, build: str, tree: str
) -> dict[str, set[str]]:
    """The files of the source tree that were compiled for each program, of ninja's own words.

    Pure, so that the records can come from another machine or a container.

    Args:
        inputs: program to what ``ninja -t inputs bin/PROGRAM`` printed.
        deps: what ``ninja -t deps`` printed.
        build: absolute name of the folder that ninja ran in, there.
        tree: absolute name of the root of llama.cpp, there.

    Returns:
        Program to paths relative to the tree.
    """
    headers = parse_deps(deps)
    known: dict[str, str | None] = {}

    def relative(name: str) -> str | None:
        # Names as ninja has them: absolute, or relative to the folder it ran in.
        if name not in known:
            path = os.path.normpath(name if name.startswith("/") else f"{build}/{name}")
            inside = path.startswith(f"{tree}/")
            known[name] = path.removeprefix(f"{tree}/") if inside else None
        return known[name]

    found: dict[str, set[str]] = {}
    for program, text in inputs.items():
        names = set(text.splitlines())
        for name in list(names):
            names.update(headers.get(name, ()))
        found[program] = {path for name in names if (path := relative(name)) is not None}
    return found


def parse_deps(text: str) -> dict[str, list[str]]:
    """Object to the files it was compiled from, of what ``ninja -t deps`` prints."""
    found: dict[str, list[str]] = {}
    files: list[str] = []
    for line in text.splitlines():
        if line.startswith("    "):
            files.append(line[4:])
        elif ": #deps" in line:
            files = found.setdefault(line.partition(": #deps")[0], [])
    return found


def parts_of(files: Iterable[str]) -> list[Part]:
    """The parts that files of the tree belong to, by name.

    A folder of ``vendor/`` that is not known becomes a part without a licence.
    """
    names = set(files)
    found = [part for part in PARTS if any(_within(name, part.places) for name in names)]
    known = tuple(place for part in PARTS for place in part.places)
    # Glue by llama.cpp's own authors.
    known += ("vendor/hash/hash.h", "vendor/hash/hash.cpp")
    unknown = {
        name.split("/")[1]
        for name in names
        if name.startswith("vendor/") and name.count("/") > 1 and not _within(name, known)
    }
    found += [Part(folder, "", (f"vendor/{folder}/",), ()) for folder in unknown]
    return sorted(found, key=lambda part: part.name)


def _within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or (place[-1] == "/" and name.startswith(place)) for place in places)


def part_version(part: Part, folder: Path) -> str | None:
    """A part's version as its own files say it; None where they do not."""
    if part.version is None:
        return None
    names, pattern = part.version
    for text in _texts(names, folder):
        match = re.search(pattern, text)
        if match is not None:
            # 22 01 08 is how LLVM writes 22.1.8.
            groups = [str(int(group)) if group.isdigit() else group for group in match.groups()]
            return ".".join(groups)
    return None


def licence_text(wanted: LicenceText, folder: Path) -> str | None:
    """A licence's text, word for word; None where it is not to be found."""
    for text in _texts(wanted.file, folder):
        if wanted.start is not None:
            begin = re.search(wanted.start, text)
            if begin is None:
                continue
            text = text[begin.start() :]
        if wanted.end is not None:
            finish = re.search(wanted.end, text)
            text = text if finish is None else text[: finish.start()]
        return text.strip() + "\n"
    return None


def own_licence() -> str | None:
    """edgequant's own licence: beside the package in a checkout, in its metadata if installed."""
    beside = PACKAGE_FOLDER.parent / "LICENSE"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution("edgequant")
        return distribution.read_text("licenses/LICENSE") or distribution.read_text("LICENSE")
    return None


def _texts(names: str | tuple[str, ...], folder: Path) -> Iterator[str]:
    for name in (names,) if isinstance(names, str) else names:
        for path in sorted(folder.glob(name)):
            with contextlib.suppress(OSError):
                yield path.read_text(encoding="utf-8", errors="replace")


def copyright_lines(texts: Mapping[str, str]) -> list[str]:
    """The lines of licence texts that say whose the code is."""
    found: list[str] = []
    for text in texts.values():
        for match in re.finditer(
            r"^[ /*]*((?:MIT licensed\. )?Copyright (?:\([cC]\) )?(?:©? ?)?\d[^\n]*)", text, re.M
        ):
            found.append(match[1].strip())
    return list(dict.fromkeys(found))


def _ask(ninja: Path, build: Path, *arguments: str) -> str:
    argv = [str(ninja), "-C", str(build), "--quiet", "-t", *arguments]
    answer = run_captured(argv, timeout_seconds=QUERY_SECONDS, apart=True)
    if answer.status != 0:
        raise BuildError(
            f"ninja does not say what went into the programs: {answer.failure}", subject=build
        )
    return answer.output
