"""Do the compilers that are here work? Small programs, compiled and run in seconds.

The first program brings its own start and its own system calls, and uses one instruction of each
extension that its target promises: it needs no C library, which zig would first have to compile
for minutes. Under qemu-user it must run on a CPU that has them, and die on one that lacks them.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgequant.build.proof.audit import audit
from edgequant.build.proof.trial import ANSWERED, try_binaries
from edgequant.build.targets.target import Target, load_target
from edgequant.build.ways.compilers import Compiler, CompilerSetup, Gcc, Zig
from edgequant.core.errors import (
    AuditError,
    BuildError,
    EdgequantError,
    TargetError,
    ToolMissingError,
)
from edgequant.core.paths import cache_root
from edgequant.core.process import run_logged
from edgequant.core.progress import task

DEFAULT_TARGET = "armv8.2-a+dotprod+fp16"
# zig compiles its libraries anew for another version or other flags; that is no fault.
COMPILE_SECONDS = 20
TIMED_OUT = "exit status 124"
NOT_TRIED = (
    "not tried: zig first compiles its libraries, a minute or two; the first build does that"
)
SAID_LINES = 8

BARE_PROGRAM = """\
static long system_call(long number, long first, long second, long third) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = first;
    register long x1 __asm__("x1") = second;
    register long x2 __asm__("x2") = third;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
}

void _start(void) {
#ifdef __ARM_FEATURE_DOTPROD
    __asm__ volatile("sdot v0.4s, v1.16b, v2.16b" ::: "v0");
#endif
#ifdef __ARM_FEATURE_FP16_VECTOR_ARITHMETIC
    __asm__ volatile("fadd v0.8h, v1.8h, v2.8h" ::: "v0");
#endif
#ifdef __ARM_FEATURE_MATMUL_INT8
    __asm__ volatile("smmla v0.4s, v1.16b, v2.16b" ::: "v0");
#endif
#ifdef __ARM_FEATURE_SVE
    __asm__ volatile("cntb x9" ::: "x9");
#endif
    system_call(64, 1, (long)"hello\\n", 6);
    system_call(93, 0, 0, 0);
    for (;;) {}
}
"""
BARE_FLAGS = ("-ffreestanding", "-nostdlib", "-fno-stack-protector")
FULL_PROGRAM = """\
#include <iostream>
#include <stdexcept>

int main() {
    try {
        throw std::runtime_error("hello");
    } catch (const std::exception & caught) {
        std::cout << caught.what() << std::endl;
    }
    return 0;
}
"""
BARE, FULL, IMAGE = "C without libraries", "C++ with its libraries", "an image of one program"


@dataclass(frozen=True)
class SelfTest:
    """What came of one of its programs."""

    way: str
    program: str
    ok: bool | None
    """None: it was not tried, and ``detail`` says why."""
    seconds: float
    detail: str

    def as_dict(self) -> dict[str, object]:
        """It as plain values."""
        return asdict(self)


def run_self_test(target_name: str = DEFAULT_TARGET) -> list[SelfTest]:
    """Compile small programs for a board's target with each compiler, check and run them.

    Of the container way only the engine is tried: compiling there takes minutes.

    Args:
        target_name: a target, or a board that says which one it needs.

    Raises:
        TargetError: no such target, or it is this host, which needs no test under qemu-user.
    """
    target = load_target(target_name)
    if target.is_host:
        raise TargetError(
            "the self-test is for boards: host programs are tried by running them",
            next_step=f"edgequant doctor --self-test --target {DEFAULT_TARGET}",
        )
    tests: list[SelfTest] = []
    with (
        tempfile.TemporaryDirectory(prefix="self-test-", dir=cache_root()) as folder,
        task(f"Trying the compilers for {target.name}") as shown,
    ):
        compilers: tuple[Compiler, ...] = (Zig(), Gcc())
        for compiler in compilers:
            shown.describe(f"Trying {compiler.name} for {target.name}")
            tests += _try_compiler(compiler, target, Path(folder) / compiler.name)
        shown.describe("Trying the container engines")
        tests.append(_try_containers())
    return tests


def failed(tests: Sequence[SelfTest]) -> list[SelfTest]:
    """Those that were tried and went wrong."""
    return [test for test in tests if test.ok is False]


def zig_libraries_are_there(target: Target, cache: Path) -> bool:
    """Whether a build has made zig compile its C and C++ libraries for a target already."""
    for mark in (cache / "build-trees").glob("*/configured.json"):
        if mark.parent.name.startswith(f"{target.name}-"):
            try:
                if "/zig-cc" in mark.read_text(encoding="utf-8"):
                    return True
            except OSError:
                continue
    return False


def _try_compiler(compiler: Compiler, target: Target, folder: Path) -> list[SelfTest]:
    try:
        compiler.identity(target)
        compiler.flags(target)
        setup = compiler.prepare(folder, target)
    except (ToolMissingError, TargetError) as error:
        step = f" ({error.next_step})" if error.next_step else ""
        return [SelfTest(compiler.name, BARE, None, 0.0, f"{error.cause}{step}")]
    except EdgequantError as error:
        return [SelfTest(compiler.name, BARE, False, 0.0, error.cause)]
    folder.mkdir(parents=True, exist_ok=True)
    flags = _flags(setup)
    c, cxx = setup.cmake_options["CMAKE_C_COMPILER"], setup.cmake_options["CMAKE_CXX_COMPILER"]
    bare = _Program(
        folder, "bare", "c", BARE_PROGRAM, [c, *flags, *BARE_FLAGS], setup, target, needs_all=True
    )
    full = _Program(
        folder, "full", "cpp", FULL_PROGRAM, [cxx, *flags], setup, target, needs_all=False
    )
    tests = [_timed(compiler.name, BARE, bare.run)]
    if tests[0].ok is False:
        return tests
    if compiler.name == Zig.name and not zig_libraries_are_there(target, cache_root()):
        return [*tests, SelfTest(compiler.name, FULL, None, 0.0, NOT_TRIED)]
    return [*tests, _timed(compiler.name, FULL, full.run)]


def _try_containers() -> SelfTest:
    """Does an engine build an image of one tiny program? None that does is no fault."""
    from edgequant.build.ways.containers import find_engine

    start = time.monotonic()
    ok: bool | None = None
    try:
        ok, detail = True, str(find_engine())
    except (ToolMissingError, TargetError) as error:
        detail = error.cause
    return SelfTest("container", IMAGE, ok, round(time.monotonic() - start, 2), detail)


def _flags(setup: CompilerSetup) -> list[str]:
    return setup.cmake_options.get("CMAKE_C_FLAGS", "").split()


def _timed(way: str, program: str, run: Callable[[], str]) -> SelfTest:
    start = time.monotonic()
    ok: bool | None
    try:
        ok, detail = True, run()
    except _TooSlowError as error:
        ok, detail = None, error.cause
    except EdgequantError as error:
        ok, detail = False, error.cause
    return SelfTest(way, program, ok, round(time.monotonic() - start, 2), detail)


class _TooSlowError(BuildError):
    """It was given up; nothing is known to be wrong."""


class _Program:
    """One program, compiled when it is run."""

    def __init__(
        self,
        folder: Path,
        name: str,
        suffix: str,
        source: str,
        compiler: Sequence[str],
        setup: CompilerSetup,
        target: Target,
        *,
        needs_all: bool,
    ) -> None:
        self._source = folder / f"{name}.{suffix}"
        self._binary = folder / name
        self._log = folder / f"{name}.log"
        self._text = source
        self._compiler = compiler
        self._environment = {**os.environ, **setup.environment}
        self._target = target
        self._needs_all = needs_all

    def run(self) -> str:
        """Compile it, check it, run it.

        Raises:
            BuildError: it does not compile.
            AuditError: it is not static, does not run, or uses nothing of what its target promises.
        """
        self._source.write_text(self._text, encoding="ascii")
        command: list[str | Path] = [
            "timeout",
            str(COMPILE_SECONDS),
            *self._compiler,
            "-O2",
            "-s",
            "-static",
            "-o",
            self._binary,
            self._source,
        ]
        _run(command, self._log, self._environment)
        facts = audit(self._binary, architecture=self._target.architecture, static=True)
        told = f"static, {facts.bytes} bytes"
        name = self._binary.name
        report = try_binaries({name: self._binary}, target=self._target, log=self._log)
        if report.not_run is not None:
            return f"{told}; not run: {report.not_run}"
        if report.ran[name] != ANSWERED:
            raise AuditError(f"does not end with status 0 on {report.cpu}", subject=name)
        told += f", runs on {report.cpu}"
        if report.lacking_cpu is None or not self._needs_all:
            return told
        if name not in report.lacking:
            raise AuditError(
                f"runs on {report.lacking_cpu} too, which lacks what {self._target.name} promises: "
                "the compiler was not told to use it, or qemu-user has a wrong CPU"
            )
        return f"{told}, dies on {report.lacking_cpu} as it should"


def _run(command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
    said: list[str] = []
    try:
        run_logged(
            command,
            log=log,
            error=BuildError,
            what="compiling it",
            env=environment,
            on_line=said.append,
        )
    except BuildError as error:
        if TIMED_OUT in error.cause.partition(";")[0]:
            raise _TooSlowError(f"did not compile in {COMPILE_SECONDS} s; {NOT_TRIED}") from None
        words = "\n  ".join(said[:SAID_LINES]) or "nothing"
        raise BuildError(f"does not compile; the compiler says:\n  {words}") from None
