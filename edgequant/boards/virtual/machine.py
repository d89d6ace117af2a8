"""Start and stop the virtual board, and know whether it runs.

All that belongs to one board lies in ``cache_root()/virtual/instances/NAME``: its disk, which
outlives it, and what each start makes anew: keys, pinned host key, port, device tree, console.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fdt
from pydantic import BaseModel, ConfigDict, ValidationError

from edgequant.boards.board import Board
from edgequant.boards.links.ssh import SshLink, SshSection
from edgequant.boards.profile import VIRTUAL, BoardProfile, Clock
from edgequant.boards.virtual.image import (
    Image,
    ensure_image,
    key_archive,
    recipe_hash,
    write_initrd,
)
from edgequant.core.disk import disk_full_explained
from edgequant.core.errors import (
    AuthenticationError,
    EdgequantError,
    HostKeyError,
    ProfileError,
    ToolMissingError,
    VirtualBoardError,
)
from edgequant.core.files import whole_file, write_json
from edgequant.core.hashing import sha256_json
from edgequant.core.locks import exclusive
from edgequant.core.paths import cache_root
from edgequant.core.process import dying_with_us
from edgequant.core.progress import say, task

QEMU = "qemu-system-aarch64"
DEFAULT_CORES = 4
DEFAULT_RAM_BYTES = 2 << 30
READY_SECONDS = 180.0
POLL_SECONDS = 0.25
BANNER_SECONDS = 3.0
POWER_OFF_SECONDS = 20.0
STOP_SECONDS = 5.0
START_TRIES = 4
CONSOLE_TAIL_LINES = 15
INODES = 16384


class State(BaseModel):
    """What is known of a started board."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start_ticks: int
    """The process's start time as the kernel counts it: another process of that pid differs."""
    port: int
    clock: Clock
    setup: str
    """Hash over all that decides how the machine behaves: a changed profile means a new start."""


@dataclass(frozen=True)
class Instance:
    """One virtual board's place, and how it is reached while it is up."""

    profile: BoardProfile
    folder: Path

    @property
    def name(self) -> str:
        return self.profile.name

    @property
    def identity_file(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def known_hosts_file(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"

    def state(self) -> State | None:
        """The running board's state; None where none runs, whatever a file says."""
        try:
            state = State.model_validate_json((self.folder / "state.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return state if _start_ticks(state.pid) == state.start_ticks else None

    def forget(self) -> None:
        """Remove the state file; the disk stays."""
        (self.folder / "state.json").unlink(missing_ok=True)

    def reachable_profile(self, state: State) -> BoardProfile:
        """The profile with the address and keys of the running board."""
        return self.profile.reached_by(
            host="127.0.0.1",
            port=state.port,
            user=self._user,
            identity_file=self.identity_file,
            known_hosts_file=self.known_hosts_file,
        )

    @property
    def _user(self) -> str:
        section = self.profile.link_section
        assert isinstance(section, SshSection)
        return section.user or "root"

    def board(self, state: State, **ssh: object) -> Board:
        """The running board, not connected yet; the user's SSH configuration has no say.

        Args:
            state: the running board's.
            ssh: values that differ from the profile's section.
        """
        profile = self.reachable_profile(state).reached_by(**ssh)
        return Board(profile, SshLink(profile, use_ssh_config=False), clock=state.clock)

    def ssh_command(self, state: State) -> str:
        """A line that a person can type to look around."""
        return (
            f"ssh -i {self.identity_file} -o UserKnownHostsFile={self.known_hosts_file} "
            f"-p {state.port} {self._user}@127.0.0.1"
        )


@dataclass(frozen=True)
class Outcome:
    """What ``up`` or ``down`` did."""

    instance: Instance
    state: State | None
    """The running board, None after ``down``."""
    changed: bool
    message: str


def find_instance(profile: BoardProfile) -> Instance:
    """A virtual board's instance.

    Raises:
        ProfileError: it is not a virtual board's profile.
    """
    if profile.kind != VIRTUAL:
        raise ProfileError(
            f"the board {profile.name!r} is of kind {profile.kind!r}: only virtual boards are "
            "started and stopped",
            next_step="edgequant board up virtual",
        )
    return Instance(profile, cache_root() / "virtual" / "instances" / profile.name)


def up(profile: BoardProfile, clock: Clock = "host", *, attached: bool = False) -> Outcome:
    """Start a virtual board, if it does not run already, and wait until SSH answers.

    Args:
        profile: of a virtual board.
        clock: "host", or "instructions" for a guest whose clock advances one nanosecond for each
            instruction, on one core: times read there repeat to the fourth digit.
        attached: the board dies with this process, however it ends.

    Raises:
        ToolMissingError: qemu or another program is not installed.
        VirtualBoardError: it did not start, did not answer in time, or is in use by another run
            with another clock.
        DiskFullError: there is no room for its image or disk.
    """
    instance = find_instance(profile)
    with _locked(instance), disk_full_explained(instance.folder):
        state = instance.state()
        if state is not None and state.setup == _setup(instance.profile, clock):
            if _wait_ready(instance, state, required=False):
                message = f"{instance.name} is up already (pid {state.pid}, port {state.port})"
                return Outcome(instance, state, False, message)
            say(f"{instance.name} runs (pid {state.pid}) but does not answer; starting it anew")
        elif state is not None:
            say(f"{instance.name} runs in another setup ({state.clock} clock); starting it anew")
        if state is not None:
            _refuse_if_used(instance)
            _stop(instance, state)
        state = _start(instance, clock, attached)
        message = (
            f"started {instance.name} (pid {state.pid}, port {state.port}, {clock} clock); "
            f"its disk is {instance.disk}"
        )
        return Outcome(instance, state, True, message)


def down(profile: BoardProfile, *, delete: bool = False, force: bool = False) -> Outcome:
    """Stop a virtual board; its disk stays unless ``delete``.

    Args:
        profile: of a virtual board.
        delete: also delete its disk.
        force: stop it even while another run uses it.

    Raises:
        VirtualBoardError: another run uses it, or it cannot be stopped.
    """
    instance = find_instance(profile)
    with _locked(instance):
        _end_orphan(instance)
        state = instance.state()
        message = f"{instance.name} is not running"
        if state is not None:
            if not force:
                _refuse_if_used(instance)
            how = _stop(instance, state)
            message = f"{instance.name} {how} (pid {state.pid})"
        instance.forget()
        had_disk = instance.disk.exists()
        if delete and had_disk:
            instance.disk.unlink()
            message += "; its disk is deleted"
    return Outcome(instance, None, state is not None or (delete and had_disk), message)


_held: set[Path] = set()


@contextlib.contextmanager
def virtual_board(profile: BoardProfile, clock: Clock = "host") -> Iterator[Instance]:
    """A running virtual board for the block; one that the block started is stopped after it.

    One block at a time uses a board: another process waits, for two would disturb each other's
    timings. A board started here dies with this process, even when that is killed.
    """
    instance = find_instance(profile)
    with contextlib.ExitStack() as stack:
        if instance.folder not in _held:
            stack.enter_context(_used_by_us(instance))
        else:
            state = instance.state()
            if state is not None and state.clock != clock:
                raise VirtualBoardError(
                    f"this run uses it with the {state.clock} clock already", subject=instance.name
                )
        outcome = up(profile, clock, attached=True)
        try:
            yield outcome.instance
        finally:
            if outcome.changed:
                down(profile)


@contextlib.contextmanager
def _used_by_us(instance: Instance) -> Iterator[None]:
    what = f"Waiting for another run that uses the board {instance.name}"
    with exclusive(instance.folder / "use.lock", what):
        _held.add(instance.folder)
        try:
            yield
        finally:
            _held.discard(instance.folder)


def _locked(instance: Instance) -> contextlib.AbstractContextManager[None]:
    """The right to start and stop: two ups at once become one start."""
    what = f"Waiting for another process that starts or stops {instance.name}"
    return exclusive(instance.folder / "lock", what)


def _refuse_if_used(instance: Instance) -> None:
    """Raise where another process is inside :func:`virtual_board`."""
    if instance.folder in _held:
        return
    with (instance.folder / "use.lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VirtualBoardError(
                "another run uses it just now",
                subject=instance.name,
                next_step="wait for that run, or stop it; `edgequant board down --force` stops "
                "the board under it",
            ) from None


# Starting -------------------------------------------------------------------------------------


def _setup(profile: BoardProfile, clock: Clock) -> str:
    virtual = profile.virtual.model_dump()
    return sha256_json([recipe_hash(), machine_arguments(profile, clock), virtual])[:16]


def _start(instance: Instance, clock: Clock, attached: bool) -> State:
    qemu = find_program(QEMU, "qemu-system-arm")
    image = ensure_image()
    _end_orphan(instance)
    instance.forget()
    _make_disk(instance)
    host_key = _make_keys_and_initrd(instance, image)
    base = machine_arguments(instance.profile, clock)
    _make_device_tree(instance, qemu, base)
    with task(f"Booting {instance.name}"):
        for attempt in range(1, START_TRIES + 1):
            port = _free_port()
            instance.known_hosts_file.write_text(f"[127.0.0.1]:{port} {host_key}\n")
            try:
                return _launch(instance, image, [qemu, *base], port, clock, attached)
            except _PortTakenError:
                if attempt == START_TRIES:
                    raise
    raise AssertionError("unreachable")


def machine_arguments(profile: BoardProfile, clock: Clock) -> list[str]:
    """qemu's arguments that make the machine, without its disk, network and system.

    ``thread=single`` because the spinning barriers of ggml collapse as soon as the guest has
    more threads running than the host has free cores.
    """
    cores = profile.running_cores(clock) or DEFAULT_CORES
    ram = profile.memory.ram_bytes or DEFAULT_RAM_BYTES
    arguments = ["-M", "virt", "-cpu", profile.virtual.cpu, "-accel", "tcg,thread=single"]
    arguments += ["-smp", str(cores), "-m", f"{ram >> 20}M"]
    if clock == "instructions":
        arguments += ["-icount", "shift=0,sleep=off"]
    return arguments


def system_arguments(instance: Instance, kernel: Path, port: int) -> list[str]:
    """qemu's arguments for disk, network, kernel and console."""
    virtual = instance.profile.virtual
    throttle = virtual.storage_bytes_per_second
    # A full disk here is an error there; by default qemu would stop the board's clock.
    drive = f"file={instance.disk},if=none,id=disk,format=raw,werror=report"
    if throttle is not None:
        drive += f",throttling.bps-read={throttle}"
    return [
        *("-display", "none", "-monitor", "none", "-serial", f"file:{instance.console}"),
        *("-no-reboot", "-nodefaults"),
        *("-kernel", str(kernel), "-initrd", str(instance.folder / "initrd.img")),
        *("-dtb", str(instance.folder / "board.dtb")),
        "-append",
        f"console=ttyAMA0 panic=-1 loglevel=4 edgequant.server={virtual.server}",
        # restrict keeps the guest off every network; forwarding from here still works.
        *("-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-rng-pci"),
        *("-drive", drive, "-device", "virtio-blk-pci,drive=disk"),
    ]


class _PortTakenError(VirtualBoardError):
    """Somebody took the port between our looking and qemu's binding."""


def _launch(
    instance: Instance, image: Image, qemu: list[str], port: int, clock: Clock, attached: bool
) -> State:
    command = [*qemu, *system_arguments(instance, image.kernel, port)]
    if attached:
        command = dying_with_us(command, signal.SIGTERM)
    instance.console.unlink(missing_ok=True)
    log = instance.folder / "qemu.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        state = State(
            pid=process.pid,
            start_ticks=_start_ticks(process.pid) or 0,
            port=port,
            clock=clock,
            setup=_setup(instance.profile, clock),
        )
        write_json(instance.folder / "state.json", state.model_dump())
        _wait_ready(instance, state)
    except BaseException:
        if process.poll() is None:
            _kill(process.pid)
        instance.forget()
        if "host forwarding" in log.read_text(errors="replace"):
            raise _PortTakenError(
                f"port {port} was taken", subject=instance.name, next_step="try again"
            ) from None
        raise
    return state


def _wait_ready(instance: Instance, state: State, *, required: bool = True) -> bool:
    """Wait until SSH really answers a command.

    Raises:
        VirtualBoardError: qemu ended, or the time is up (with ``required``).
    """
    deadline = time.monotonic() + (READY_SECONDS if required else READY_SECONDS / 4)
    problem = f"did not answer within {READY_SECONDS:g} s"
    while time.monotonic() < deadline:
        if _start_ticks(state.pid) != state.start_ticks:
            problem = "ended while it booted"
            break
        if _banner(state.port):
            try:
                with instance.board(state) as board:
                    mounted = board.run("grep -q ' /data ' /proc/mounts", check=False).status == 0
                if mounted:
                    return True
                problem = "cannot mount its disk"
                break
            except (HostKeyError, AuthenticationError) as error:
                problem = f"did not let us in: {error.cause}"
                break
            except EdgequantError as error:
                problem = f"did not answer within {READY_SECONDS:g} s ({error.cause})"
        time.sleep(POLL_SECONDS)
    if not required:
        return False
    raise VirtualBoardError(
        f"the virtual board {problem}; the last it said:\n  {_last_words(instance)}",
        subject=instance.name,
        next_step=f"read {instance.console} and {instance.folder / 'qemu.log'}; "
        "`edgequant board down --delete` makes a fresh disk",
    )


def _banner(port: int) -> bool:
    """Whether an SSH server greets; qemu itself accepts connections long before one runs."""
    try:
        with socket.create_connection(("127.0.0.1", port), BANNER_SECONDS) as connection:
            connection.settimeout(BANNER_SECONDS)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _last_words(instance: Instance) -> str:
    lines: list[str] = []
    for path in (instance.folder / "qemu.log", instance.console):
        with contextlib.suppress(FileNotFoundError):
            lines += path.read_text(errors="replace").splitlines()
    return "\n  ".join(lines[-CONSOLE_TAIL_LINES:]) or "nothing"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str, package: str) -> str:
    """A program's path; system folders that a user's PATH may lack are looked in too.

    Raises:
        ToolMissingError: it is not installed.
    """
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        raise ToolMissingError(
            f"{name} is not installed, and the virtual board needs it",
            next_step=f"apt-get install {package}",
        )
    return found


def _make_disk(instance: Instance) -> None:
    """An empty ext4 file system in a sparse file, made without root."""
    if instance.disk.exists():
        return
    mke2fs = find_program("mke2fs", "e2fsprogs")
    with whole_file(instance.disk) as draft:
        with draft.open("wb") as stream:
            stream.truncate(instance.profile.virtual.disk_bytes)
        # Few inodes, all made now: otherwise the guest would spend its first minutes writing them.
        options = ["-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"]
        command = [mke2fs, "-q", "-F", "-t", "ext4", *options, "-N", str(INODES), str(draft)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise VirtualBoardError(f"mke2fs failed: {done.stderr.strip()}", subject=draft)


def _make_keys_and_initrd(instance: Instance, image: Image) -> str:
    """Fresh keys for both sides; returns the host's public one, known before it ever answers."""
    host_private, host_public = _new_key()
    user_private, user_public = _new_key()
    _write_private(instance.identity_file, user_private)
    archive = key_archive(host_private, f"{user_public.decode()} edgequant")
    write_initrd(image, archive, instance.folder / "initrd.img")
    return host_public.decode()


def _new_key() -> tuple[bytes, bytes]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private, public


def _write_private(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(data)


def _make_device_tree(instance: Instance, qemu: str, machine: list[str]) -> None:
    """qemu's own device tree under the name of the board that it stands for."""
    dump = instance.folder / "qemu.dtb"
    arguments = list(machine)
    arguments[arguments.index("virt")] = f"virt,dumpdtb={dump}"
    done = subprocess.run([qemu, *arguments, "-nodefaults"], capture_output=True, text=True)
    if done.returncode != 0 or not dump.is_file():
        raise VirtualBoardError(
            f"qemu cannot make this machine: {done.stderr.strip()}",
            subject=instance.name,
            next_step="check [virtual] cpu in the profile against this qemu's `-cpu help`",
        )
    virtual = instance.profile.virtual
    changed = rename_board(dump.read_bytes(), virtual.compatible, virtual.model)
    (instance.folder / "board.dtb").write_bytes(changed)
    dump.unlink()


def rename_board(blob: bytes, compatible: str, model: str) -> bytes:
    """A device tree whose root says another board, at its real size.

    qemu's own dump is padded to 1 MiB, which the kernel does not accept with ``-dtb``.
    """
    tree = fdt.parse_dtb(blob)
    tree.set_property("compatible", compatible)
    tree.set_property("model", model)
    return bytes(tree.to_dtb())


# Stopping -------------------------------------------------------------------------------------


def _start_ticks(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None where it is gone or a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # it may be a child of ours that has ended
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _stop(instance: Instance, state: State) -> str:
    """Shut the guest down in order, or end qemu where it does not listen."""
    with contextlib.suppress(EdgequantError):
        if _banner(state.port):
            with instance.board(state, connect_timeout_seconds=STOP_SECONDS) as board:
                board.run("sync; poweroff", timeout_seconds=POWER_OFF_SECONDS, check=False)
            if _wait_gone(state, POWER_OFF_SECONDS):
                return "shut down"
    if _wait_gone(state, 0):
        return "shut down"
    _kill(state.pid)
    if not _wait_gone(state, STOP_SECONDS):
        raise VirtualBoardError(f"qemu does not end (pid {state.pid})", subject=instance.name)
    return "was ended: it did not answer"


def _end_orphan(instance: Instance) -> None:
    """End a qemu that holds our disk though no state file tells of it.

    Such a one is left where a start was killed between making the process and writing its state.
    """
    if instance.state() is not None:
        return
    mark = f"file={instance.disk},".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = path.read_bytes().split(b"\0")
            if Path(os.fsdecode(arguments[0])).name != QEMU:
                continue
            if any(argument.startswith(mark) for argument in arguments):
                _kill(int(path.parent.name))


def _wait_gone(state: State, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _start_ticks(state.pid) == state.start_ticks:
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS / 2)
    return True


def _kill(pid: int) -> None:
    """SIGTERM lets qemu flush its disk; SIGKILL where that does not help."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if _start_ticks(pid) is None:
                return
            time.sleep(POLL_SECONDS / 5)
