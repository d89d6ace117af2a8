from __future__ import annotations

from pathlib import Path

import pytest

from edgequant.build.ways.containers import engine as engine_module
from edgequant.build.ways.containers.engine import (
    ENGINE_VARIABLE,
    Engine,
    Mode,
    ask,
    find_engine,
    is_step,
    plain_line,
    reason_of,
    run_folder,
)
from edgequant.core.errors import (
    BuildError,
    DiskFullError,
    FileAccessError,
    TargetError,
    ToolMissingError,
)

# A working engine in a few lines: what it is told to write to, it writes.
WORKS = """
case "$*" in *--version*) echo "engine version 9.8.7"; exit;; version*) echo 9.8.7; exit;; esac
for argument; do
    case $argument in type=local,dest=*) touch "${argument#type=local,dest=}/nothing";; esac
done
"""
# Steps cannot be isolated, and nothing can be laid over another folder: only chroot and vfs work.
LIMITED = """
case "$*" in
    *--version*) echo "engine version 1.2.3"; exit;;
    *--storage-driver\\ vfs*build*--isolation\\ chroot*) ;;
    *build*) echo "STEP 1/3: FROM scratch"; echo "Error: overlay: not permitted"; exit 125;;
esac
for argument; do
    case $argument in type=local,dest=*) touch "${argument#type=local,dest=}/nothing";; esac
done
"""
NO_DAEMON = 'echo "Cannot connect to the daemon. Is it running?" >&2; exit 1'


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before which no engine is on the PATH, and a cache of the test's own."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("touch", "sh"):
        (folder / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(ENGINE_VARIABLE, raising=False)
    return folder


@pytest.fixture(autouse=True)
def no_run_folder(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left in the system's own run folder."""
    if "run_folder" not in request.node.name:
        monkeypatch.setattr(engine_module, "run_folder", lambda _storage: tmp_path / "run")


def add(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_first_engine_that_builds_is_taken_as_it_is(programs: Path) -> None:
    add(programs, "podman", WORKS)
    add(programs, "buildah", WORKS)
    assert find_engine() == Engine("podman", "9.8.7")
    assert find_engine(("buildah", "podman")).name == "buildah"


def test_docker_without_a_daemon_is_passed_over(programs: Path) -> None:
    add(programs, "docker", NO_DAEMON)
    add(programs, "buildah", WORKS)
    assert find_engine().name == "buildah"


def test_chroot_and_vfs_are_used_only_where_nothing_else_works(programs: Path) -> None:
    add(programs, "buildah", LIMITED)
    engine = find_engine()
    assert engine.mode == Mode("chroot", "vfs")
    assert "chroot isolation, vfs storage" in str(engine)


def test_where_no_engine_works_the_error_says_why_of_each(programs: Path) -> None:
    add(programs, "docker", NO_DAEMON)
    add(programs, "podman", "echo 'Error: no user namespaces'; exit 125")
    with pytest.raises(ToolMissingError) as caught:
        find_engine()
    message = str(caught.value)
    assert "docker: Cannot connect to the daemon" in message
    assert "podman: no user namespaces" in message
    assert "buildah: not installed" in message
    assert "what Debian calls buildah" in str(caught.value.next_step)
    add(programs, "dnf", "exit 1")
    with pytest.raises(ToolMissingError) as caught:
        find_engine()
    assert "dnf install --assumeyes buildah, or start docker" in str(caught.value.next_step)


def test_the_environment_may_name_the_one_to_use(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(programs, "docker", WORKS)
    add(programs, "podman", NO_DAEMON)
    monkeypatch.setenv(ENGINE_VARIABLE, "podman")
    with pytest.raises(ToolMissingError, match="podman: Cannot connect") as caught:
        find_engine()
    assert "docker" not in caught.value.cause
    monkeypatch.setenv(ENGINE_VARIABLE, "docker")
    assert find_engine().name == "docker"
    monkeypatch.setenv(ENGINE_VARIABLE, "lxc")
    with pytest.raises(TargetError, match="lxc"):
        find_engine()


def test_an_engine_that_writes_nothing_does_not_work(programs: Path) -> None:
    add(programs, "docker", "echo 1.0")
    with pytest.raises(ToolMissingError, match="docker: it wrote no output"):
        find_engine(("docker",))


def build_argv(engine: Engine) -> list[str]:
    return engine.build_argv(
        Path("/p/Dockerfile"),
        Path("/p"),
        build_contexts={"llama_cpp": Path("/l")},
        arguments={"TOOLS": "a b"},
        target="versions",
        output=Path("/o"),
    )


@pytest.mark.parametrize("name", ["docker", "podman", "buildah"])
def test_every_engine_gets_the_same_build(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path))
    argv = build_argv(Engine(name))
    assert argv[0] == name
    text = " ".join(argv)
    assert "build --file /p/Dockerfile" in text
    assert "--target versions --build-context llama_cpp=/l" in text
    assert argv[argv.index("--build-arg") + 1] == "TOOLS=a b"
    assert text.endswith("--output type=local,dest=/o /p")


def test_docker_is_asked_for_lines_and_keeps_a_named_image() -> None:
    argv = build_argv(Engine("docker"))
    assert argv[1:3] == ["buildx", "build"]
    assert "--progress=plain" in argv
    assert "--load" not in argv
    assert "--load" in Engine("docker").build_argv(Path("D"), Path(), tag="x")
    assert "--no-cache" in Engine("docker").build_argv(Path("D"), Path(), afresh=True)


def test_podman_and_buildah_store_apart_from_the_users_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQUANT_CACHE", str(tmp_path))
    argv = build_argv(Engine("buildah"))
    assert argv[argv.index("--root") + 1].startswith(str(tmp_path))
    assert argv.index("--root") < argv.index("build")
    assert "--layers=true" in argv
    assert "--isolation" not in argv
    assert "--storage-driver" not in argv
    limited = build_argv(Engine("buildah", mode=Mode("chroot", "vfs")))
    assert limited[limited.index("--storage-driver") + 1] == "vfs"
    assert limited[limited.index("--isolation") + 1] == "chroot"
    assert "--layers=false" in limited
    # Two drivers in one folder would be refused.
    assert Engine("buildah").storage != Engine("buildah", mode=Mode("chroot", "vfs")).storage
    afresh = Engine("podman").build_argv(Path("D"), Path(), afresh=True)
    assert "--layers=false" in afresh


def test_the_run_folder_is_short_and_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    folder = run_folder(deep)
    try:
        assert len(str(folder)) <= 50
        assert folder.stat().st_mode & 0o077 == 0
        assert run_folder(deep) == folder
        assert run_folder(tmp_path) != folder
        monkeypatch.setattr("os.getuid", lambda: 4711)
        with pytest.raises(FileAccessError, match="somebody else"):
            run_folder(deep)
    finally:
        folder.rmdir()
        monkeypatch.undo()
        run_folder(tmp_path).rmdir()


def test_a_failed_build_shows_the_last_lines_without_whole_steps(
    programs: Path, tmp_path: Path
) -> None:
    step = "x" * 5000
    add(programs, "podman", f"echo '[1/2] STEP 1/2: RUN {step}'; echo 'a.c:1: error: no'; exit 1")
    log = tmp_path / "log"
    lines: list[str] = []
    with pytest.raises(BuildError, match="compiling with podman failed") as caught:
        Engine("podman").build(
            tmp_path / "D", tmp_path, log=log, what="compiling", on_line=lines.append
        )
    assert "a.c:1: error: no" in caught.value.cause
    assert len(caught.value.cause) < 1000
    assert lines == ["a.c:1: error: no"]
    assert step in log.read_text()


def test_a_full_disk_is_told_apart(programs: Path, tmp_path: Path) -> None:
    long = "x" * 5000
    add(programs, "podman", f"echo 'Error: {long}: no space left on device'; exit 125")
    add(programs, "docker", "echo '#7 1.2 ld: final link failed: No space left on device'; exit 1")
    for name, hint in (("podman", "EDGEQUANT_CACHE"), ("docker", "docker builder prune")):
        with pytest.raises(DiskFullError, match=f"while compiling with {name}") as caught:
            Engine(name).build(tmp_path / "D", tmp_path, log=tmp_path / "log", what="compiling")
        assert hint in str(caught.value.next_step)


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("#12 34.56 [3/76] Building C object", "[3/76] Building C object"),
        ("#12 0.345 FAILED: a.o", "FAILED: a.o"),
        ("#9 [build 2/4] COPY x", "[build 2/4] COPY x"),
        ("[3/76] Building C object", "[3/76] Building C object"),
        ("#include <x>", "#include <x>"),
    ],
)
def test_buildkits_prefix_is_taken_off(line: str, plain: str) -> None:
    assert plain_line(line) == plain


def test_an_engines_own_steps_are_not_ninjas() -> None:
    assert is_step("[4/5] STEP 2/7: COPY a b")
    assert is_step("STEP 1/3: FROM scratch")
    assert is_step("--> Using cache 0123")
    assert is_step("[2/2] COMMIT")
    assert not is_step("[4/76] Building C object")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("STEP 1\nError: cannot clone: Operation not permitted\n", "cannot clone: Operation not"),
        ("docker: unknown command: docker buildx\n\nRun 'docker --help'", "unknown command"),
        ("Cannot connect to the daemon.\n", "Cannot connect"),
        ("", "without a word"),
    ],
)
def test_the_reason_is_the_line_that_says_most(output: str, reason: str) -> None:
    assert reason in reason_of(output)


def test_a_question_without_an_answer_is_given_up() -> None:
    status, answer = ask(["sleep", "600"], 0.2)
    assert status != 0
    assert "no answer" in answer
