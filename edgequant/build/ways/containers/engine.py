"""docker, podman and buildah as one thing that builds a Dockerfile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgequant.build.ways.containers.smallest_image import write_smallest_image
from edgequant.core.disk import says_disk_full
from edgequant.core.errors import (
    BuildError,
    DiskFullError,
    FileAccessError,
    TargetError,
    ToolMissingError,
)
from edgequant.core.install_hints import install_command
from edgequant.core.paths import cache_root
from edgequant.core.process import run_captured, run_logged

DOCKER, PODMAN, BUILDAH = "docker", "podman", "buildah"
# Each to the arguments with which it does the least that shows that it answers; in the order of
# preference.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    DOCKER: ("info", "--format", "{{.ServerVersion}}"),
    PODMAN: ("info", "--format", "{{.Version.Version}}"),
    BUILDAH: ("--version",),
}
ENGINE_NAMES = tuple(QUESTIONS)
ENGINE_VARIABLE = "EDGEQUANT_CONTAINER_ENGINE"
SMALL_BUILD_SECONDS = 60
QUESTION_SECONDS = 30
# When we are killed, the kernel ends only the process that we started. A step that an engine runs
# in a chroot would go on: so a shell stands between, which then ends its whole group.
_GROUP_ENDS_TOGETHER = (
    "sh",
    "-c",
    "end() { trap '' TERM; kill -TERM 0; (sleep 10; kill -KILL 0) & wait $child; kill -KILL 0; }\n"
    "trap end TERM\n"
    '"$@" &\n'
    "child=$!\n"
    "wait $child\n",
    "sh",
)
LAST_LINES = 15
LONGEST_LINE = 400
LONGEST_RUN_FOLDER = 50 - len("/edgequant-01234567")


@dataclass(frozen=True)
class Mode:
    """How podman or buildah isolates and stores; None leaves the engine's own choice."""

    isolation: str | None = None
    driver: str | None = None

    def __str__(self) -> str:
        parts = []
        if self.isolation:
            parts.append(f"{self.isolation} isolation")
        if self.driver:
            parts.append(f"{self.driver} storage")
        return ", ".join(parts)


DEFAULT_MODE = Mode()
# Tried in this order: what people set up is left as it is where it works. Without user namespaces
# or control groups only chroot runs a step; vfs stores where nothing can be laid over another
# folder, but copies every layer whole, so it comes last.
MODES = (DEFAULT_MODE, Mode("chroot"), Mode(None, "vfs"), Mode("chroot", "vfs"))


@dataclass(frozen=True)
class Engine:
    """One engine that was seen to build, and how it has to be called."""

    name: str
    version: str = ""
    mode: Mode = DEFAULT_MODE

    def __str__(self) -> str:
        mode = f" ({self.mode})" if str(self.mode) else ""
        return f"{self.name} {self.version}{mode}".strip()

    @property
    def has_own_storage(self) -> bool:
        """Its images and layers lie in our cache, apart from the user's own."""
        return self.name != DOCKER

    @property
    def keeps_layers(self) -> bool:
        """Whether unchanged steps are found again.

        With vfs each step of each stage would be a whole copy: the compiler's cache alone is kept.
        """
        return self.mode.driver != "vfs"

    @property
    def storage(self) -> Path:
        """Where podman's or buildah's own images of ours lie."""
        return containers_folder() / "storage" / f"{self.name}-{self.mode.driver or 'default'}"

    def environment(self) -> dict[str, str]:
        """The environment to run it in."""
        environment = dict(os.environ)
        if self.has_own_storage:
            # buildah keeps cache mounts, so also the compiler's cache, below it.
            environment["TMPDIR"] = str(temporary_folder())
        return environment

    def argv(self, *arguments: str | Path) -> list[str]:
        """Command line of any of the engine's commands."""
        argv = [self.name]
        if self.has_own_storage:
            argv += ["--root", str(self.storage), "--runroot", str(run_folder(self.storage))]
            if self.mode.driver:
                argv += ["--storage-driver", self.mode.driver]
        return [*argv, *map(str, arguments)]

    def build_argv(
        self,
        dockerfile: Path,
        context: Path,
        *,
        build_contexts: Mapping[str, Path] | None = None,
        arguments: Mapping[str, str] | None = None,
        target: str | None = None,
        output: Path | None = None,
        tag: str | None = None,
        afresh: bool = False,
    ) -> list[str]:
        """Command line that builds a Dockerfile; see :meth:`build`.

        Args:
            afresh: run every step, whatever was kept of earlier builds, and keep nothing.
        """
        options: list[str] = ["--file", str(dockerfile)]
        if self.name == DOCKER:
            command = ["buildx", "build"]
            options += ["--progress=plain", "--provenance=false"]
            if tag is not None and output is None:
                options.append("--load")
            if afresh:
                options.append("--no-cache")
        else:
            command = ["build"]
            layers = self.keeps_layers and not afresh
            options += ["--force-rm", f"--layers={'true' if layers else 'false'}"]
            if self.mode.isolation:
                options += ["--isolation", self.mode.isolation]
        if target is not None:
            options += ["--target", target]
        for name, path in (build_contexts or {}).items():
            options += ["--build-context", f"{name}={path}"]
        for name, value in (arguments or {}).items():
            options += ["--build-arg", f"{name}={value}"]
        if tag is not None:
            options += ["--tag", tag]
        if output is not None:
            options += ["--output", f"type=local,dest={output}"]
        return self.argv(*command, *options, context)

    def build(
        self,
        dockerfile: Path,
        context: Path,
        *,
        log: Path,
        what: str,
        build_contexts: Mapping[str, Path] | None = None,
        arguments: Mapping[str, str] | None = None,
        target: str | None = None,
        output: Path | None = None,
        tag: str | None = None,
        on_line: Callable[[str], None] | None = None,
        next_step: str | None = None,
    ) -> None:
        """Build a Dockerfile; nothing is left running, however it ends.

        Args:
            dockerfile: the file.
            context: folder that its COPY reads.
            log: file that the engine's output is appended to.
            what: what is being done, for the error.
            build_contexts: more folders, by the names that the Dockerfile calls them.
            arguments: values for its ARGs.
            target: the stage to stop at, by default the last.
            output: folder that gets the files of that stage.
            tag: name that the image is kept under.
            on_line: called with each line that a step prints, without the engine's prefix.
            next_step: what the user can do when it fails.

        Raises:
            BuildError: it failed; the message has the last lines of the engine.
            DiskFullError: it failed because a disk is full.
        """

        last: deque[str] = deque(maxlen=LAST_LINES)
        full = False

        def from_a_step(line: str) -> None:
            nonlocal full
            line = plain_line(line)
            # Looking at the disk would be too late: the engine has tidied up when it ends.
            full = full or says_disk_full(line)
            if is_step(line):
                return
            # Engines repeat a whole step of the Dockerfile in one line.
            last.append(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ...")
            if on_line is not None:
                on_line(line)

        try:
            argv = self.build_argv(
                dockerfile,
                context,
                build_contexts=build_contexts,
                arguments=arguments,
                target=target,
                output=output,
                tag=tag,
            )
            run_logged(
                [*_GROUP_ENDS_TOGETHER, *argv],
                log=log,
                error=BuildError,
                what=what,
                env=self.environment(),
                on_line=from_a_step,
            )
        except BuildError as failed:
            if full:
                raise DiskFullError(
                    f"no space left while {what} with {self.name}",
                    subject=self.storage if self.has_own_storage else "docker's disk",
                    next_step="free some space, or point EDGEQUANT_CACHE at another disk"
                    if self.has_own_storage
                    else "free some space there, for example: docker builder prune",
                ) from failed
            raise BuildError(
                f"{what} with {self.name} failed; its last lines:\n  " + "\n  ".join(last),
                subject=log,
                next_step=next_step or f"read the whole log: {log}",
            ) from failed

    def has_image(self, tag: str) -> bool:
        """Is there an image of that name in the engine's storage?"""
        status, _ = ask(
            self.argv("inspect", "--type", "image", tag), QUESTION_SECONDS, self.environment()
        )
        return status == 0

    def clean(self, *, images: bool) -> None:
        """Remove what interrupted or older builds of ours left in our own storage.

        Args:
            images: also layers that no named image is made of. docker cleans up by itself.
        """
        if not self.has_own_storage:
            return
        environment = self.environment()
        if self.name == BUILDAH:
            commands = [["rm", "--all"]] + ([["rmi", "--prune"]] if images else [])
        else:
            commands = [["image", "prune", "--force", "--external"]] if images else []
            status, listed = ask(
                self.argv("ps", "--all", "--external", "--quiet"), QUESTION_SECONDS, environment
            )
            if status == 0 and listed.split():
                commands.insert(0, ["rm", "--force", *listed.split()])
        for command in commands:
            ask(self.argv(*command), SMALL_BUILD_SECONDS, environment)


def find_engine(names: Sequence[str] = ENGINE_NAMES) -> Engine:
    """The first engine that really builds here, tried with an image of one tiny program.

    Args:
        names: engines in the order of preference; ``$EDGEQUANT_CONTAINER_ENGINE`` names the only
            one to use.

    Raises:
        TargetError: the variable names no engine.
        ToolMissingError: none works; the message says for each why not.
    """
    forced = os.environ.get(ENGINE_VARIABLE)
    if forced:
        if forced not in ENGINE_NAMES:
            raise TargetError(
                f"{ENGINE_VARIABLE} names no container engine: {forced!r}",
                next_step=f"set it to one of {', '.join(ENGINE_NAMES)}, or unset it",
            )
        names = (forced,)
    reasons: dict[str, str] = {}
    for name in names:
        found = try_engine(name)
        if isinstance(found, Engine):
            return found
        reasons[name] = found
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise ToolMissingError(
        f"no container engine works here ({listed})",
        next_step=f"{install_command('buildah')}, or start docker; or build without containers: "
        "--with zig",
    )


def try_engine(name: str) -> Engine | str:
    """An engine in the first mode in which it builds, or why it does not."""
    if shutil.which(name) is None:
        return "not installed"
    if name == DOCKER:
        status, answer = ask([name, "version", "--format", "{{.Server.Version}}"], QUESTION_SECONDS)
        if status != 0:
            return reason_of(answer)
        reason = _why_it_does_not_build(Engine(name))
        return Engine(name, answer.strip()) if reason is None else reason
    status, answer = ask([name, "--version"], QUESTION_SECONDS)
    if status != 0:
        return reason_of(answer)
    version = re.search(r"\d+\.\d[\w.+~-]*", answer)
    engine = Engine(name, version[0] if version else "")
    first_reason: str | None = None
    for mode in MODES:
        reason = _why_it_does_not_build(replace(engine, mode=mode))
        if reason is None:
            return replace(engine, mode=mode)
        first_reason = first_reason or reason
    return first_reason or "does not work"


def _why_it_does_not_build(engine: Engine) -> str | None:
    """Build a tiny image; None where that works, else the engine's own words."""
    with tempfile.TemporaryDirectory(prefix="smallest-", dir=temporary_folder()) as name:
        folder = Path(name)
        dockerfile = write_smallest_image(folder / "context")
        out = folder / "out"
        out.mkdir()
        status, output = ask(
            engine.build_argv(dockerfile, dockerfile.parent, output=out, afresh=True),
            SMALL_BUILD_SECONDS,
            engine.environment(),
        )
        if status == 0 and (out / "nothing").is_file():
            return None
        with contextlib.suppress(OSError):
            engine.clean(images=False)
        return reason_of(output) if status != 0 else "it wrote no output"


def ask(
    argv: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a short command; its exit status and all it printed (-1 where it takes too long)."""
    captured = run_captured(argv, timeout_seconds=seconds, env=environment)
    if captured.status is None:
        return -1, f"no answer within {seconds:.0f} s"
    return captured.status, captured.output


def reason_of(output: str) -> str:
    """The line of an engine's output that says best why it failed."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        match = re.search(r"(?:^|\s)(?:error|ERROR|Error)\b:?\s*(.+)", line)
        if match is not None:
            return match[1]
    return lines[0] if lines else "it failed without a word"


def plain_line(line: str) -> str:
    """A line without buildkit's ``#12 34.56`` in front."""
    return re.sub(r"^#\d+ (?:\d+\.\d+ )?", "", line)


def is_step(line: str) -> bool:
    """Is this podman or buildah telling of its own work, not a program that it runs?"""
    return re.match(r"(\[\d+/\d+\] )?(STEP \d|COMMIT\b)|--> ", line) is not None


def containers_folder() -> Path:
    """Everything of ours about containers, below the cache; made if absent."""
    folder = cache_root() / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_folder(storage: Path) -> Path:
    """Where podman and buildah note what is mounted; made if absent, for this user alone.

    podman takes no more than 50 characters, so it cannot lie in the cache.

    Raises:
        FileAccessError: somebody else has a folder of that name.
    """
    digest = hashlib.sha256(str(storage).encode()).hexdigest()[:8]
    candidates = [os.environ.get("XDG_RUNTIME_DIR"), "/run", "/tmp"]
    top = next(
        Path(folder)
        for folder in candidates
        if folder is not None
        and len(folder) <= LONGEST_RUN_FOLDER
        and (os.access(folder, os.W_OK) or folder == "/tmp")
    )
    folder = top / f"edgequant-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise FileAccessError(
            "belongs to somebody else", subject=folder, next_step="set XDG_RUNTIME_DIR"
        )
    return folder


def temporary_folder() -> Path:
    """Where engines put temporary files and the compiler's cache; made if absent."""
    folder = containers_folder() / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
