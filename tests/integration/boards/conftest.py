"""A real sshd on a loopback port, a proxy that cuts connections, and a booted virtual board."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgequant.boards.board import Board
from edgequant.boards.profile import BoardProfile, load_profile
from edgequant.boards.virtual.image import ensure_image
from edgequant.boards.virtual.machine import (
    Instance,
    find_instance,
    find_program,
    virtual_board,
)
from edgequant.core.errors import EdgequantError
from tests.ssh import over_ssh

SSHD_CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
"""


def wait_for(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def process_runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text()


@dataclass
class SshServer:
    """A running sshd and what a profile needs to reach it."""

    folder: Path
    port: int
    host_key: str

    def profile(self, remote_folder: Path, *, port: int | None = None, **ssh: Any) -> BoardProfile:
        """A profile for it; ``port`` where something stands in between."""
        port = port or self.port
        known_hosts = self.folder / f"known_hosts_{port}"
        known_hosts.write_text(f"[127.0.0.1]:{port} {self.host_key}\n")
        section: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "user": getpass.getuser(),
            "identity_file": str(self.folder / "user_key"),
            "known_hosts_file": str(known_hosts),
            "connect_timeout_seconds": 10.0,
        }
        return BoardProfile.model_validate(
            {
                "name": "loopback",
                "remote_folder": str(remote_folder),
                "build": {"target": "host"},
                "ssh": section | ssh,
            }
        )


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    try:
        sshd = find_program("sshd", "openssh-server")
        find_program("ssh-keygen", "openssh-client")
    except EdgequantError as error:
        pytest.skip(error.cause)
    folder = tmp_path_factory.mktemp("sshd")
    host_key = make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(make_key(folder / "user_key"))
    port = free_port()
    (folder / "config").write_text(SSHD_CONFIG.format(port=port, folder=folder))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it when it runs as root
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        wait_for(lambda: greets(port) or process.poll() is not None)
        if process.poll() is not None:
            pytest.skip(f"sshd does not start: {(folder / 'log').read_text()[-300:]}")
        yield SshServer(folder, port, " ".join(host_key.split()[:2]))
    finally:
        process.terminate()
        process.wait()


def greets(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as probe:
        return probe.recv(4) == b"SSH-"
    return False


@pytest.fixture
def ssh_board(ssh_server: SshServer, tmp_path: Path) -> Iterator[Board]:
    (tmp_path / "board").mkdir()
    with over_ssh(ssh_server.profile(tmp_path / "board")) as board:
        yield board


@dataclass
class CuttingProxy:
    """A TCP proxy that cuts its first connections after so many bytes towards the server."""

    target: int
    cuts: list[int]
    port: int = 0
    passed: list[int] = field(default_factory=list)
    """Bytes towards the server, by connection."""
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def __enter__(self) -> CuttingProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut whatever is connected just now."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._pairs.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                number = len(self.passed)
                self.passed.append(0)
                limit = self.cuts[number] if number < len(self.cuts) else None
                self._pairs.append((client, server))
                for source, sink, counted in ((client, server, number), (server, client, None)):
                    threading.Thread(
                        target=self._pump, args=(source, sink, counted, limit), daemon=True
                    ).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, counted: int | None, limit: int | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                sink.sendall(data)
                if counted is None:
                    continue
                self.passed[counted] += len(data)
                if limit is not None and self.passed[counted] >= limit:
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cutting_proxy(ssh_server: SshServer) -> Iterator[Callable[..., CuttingProxy]]:
    with contextlib.ExitStack() as stack:
        yield lambda *cuts: stack.enter_context(CuttingProxy(ssh_server.port, list(cuts)))


@pytest.fixture(scope="session")
def virtual_profile_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The shipped virtual board under a name of this test run's own; skipped where it cannot be."""
    try:
        for program, package in (
            ("qemu-system-aarch64", "qemu-system-arm"),
            ("mke2fs", "e2fsprogs"),
        ):
            find_program(program, package)
        ensure_image()
    except EdgequantError as error:
        pytest.skip(f"no virtual board here: {error.cause}")
    shipped = Path(__file__).parents[3] / "boards" / "virtual.toml"
    path = tmp_path_factory.mktemp("boards") / f"test-{os.getpid()}.toml"
    path.write_text(shipped.read_text())
    instance = find_instance(load_profile(str(path)))
    yield path
    shutil.rmtree(instance.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def running_board(virtual_profile_path: Path) -> Iterator[Instance]:
    with virtual_board(load_profile(str(virtual_profile_path))) as instance:
        yield instance


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root and the program mount")
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
