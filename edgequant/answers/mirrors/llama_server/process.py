"""The server's process: started on the loopback address, ended with us, its last words kept."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from edgequant.core.errors import MirrorGoneError, PortInUseError, ToolMissingError
from edgequant.core.process import TAIL_LINES, dying_with_us

HOST = "127.0.0.1"
FlashAttention = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """What of a server's set-up can change an answer."""

    slots: int = 1
    prompt_cache: bool = False
    threads: int = 1
    """Attention over 512 and more tokens is summed up in as many parts as there are threads."""
    context: int = 4096
    """Tokens that a slot holds, prompt and answer; at most what the model was trained with."""
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: FlashAttention = "auto"

    @property
    def is_reference(self) -> bool:
        """Whether answers are those of plain greedy decoding."""
        return self.slots == 1 and not self.prompt_cache

    def as_dict(self) -> dict[str, object]:
        """Plain values; of a setting that came later, only another than was always taken."""
        values = asdict(self)
        if self.flash_attention == "auto":
            del values["flash_attention"]
        return values


class ServerProcess:
    """A llama-server for one GGUF.

    It is killed by the kernel when this process (more exactly: the thread that started it) dies
    without stopping it.

    Args:
        binary: a llama-server.
        gguf: the model to serve.
        policy: what can change an answer.
        port: a port that must be free, by default one that the system chooses.
        log: file that the server's output is appended to.
    """

    def __init__(
        self, binary: Path, gguf: Path, *, policy: ServerPolicy, port: int | None, log: Path
    ) -> None:
        self.log = log
        self._binary = binary
        self._gguf = gguf
        self._policy = policy
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The server's process id."""
        return None if self._process is None else self._process.pid

    def check_binary(self) -> None:
        """See that there is a server to start.

        Raises:
            ToolMissingError: there is none.
        """
        if not self._binary.is_file():
            raise ToolMissingError(
                "no llama-server here",
                subject=self._binary,
                next_step="run edgequant build --target host",
            )

    def start(self) -> None:
        """Start the server without waiting for it.

        Raises:
            ToolMissingError: there is no such server.
            PortInUseError: the port asked for is taken.
        """
        self.check_binary()
        if self._port is not None:
            check_port(self._port)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        argv = server_arguments(self._binary, self._gguf, self._policy, self._port or 0)
        with self.log.open("ab") as stream:
            stream.write(("$ " + " ".join(argv) + "\n").encode(errors="replace"))
            stream.flush()
            self._log_start = stream.tell()
            self._process = subprocess.Popen(
                dying_with_us(argv),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=server_environment(os.environ),
                start_new_session=True,
            )

    def address(self) -> str | None:
        """Where it listens, as soon as it says so."""
        return listening_address(self._output())

    def wait(self) -> None:
        """Block until the server ends by itself.

        Raises:
            MirrorGoneError: it did.
        """
        assert self._process is not None
        self._process.wait()
        raise self._died()

    def check_alive(self, seconds: float) -> None:
        """Give the server some time to die, and raise if it has.

        Raises:
            MirrorGoneError: with its last lines.
            PortInUseError: that was why.
        """
        assert self._process is not None
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise self._died()

    def stop(self) -> None:
        """End the server; may be called twice."""
        if self._process is not None and self._process.poll() is None:
            # It has nothing to save, and asked politely in the middle of an answer it waits for
            # that answer's reader for ever.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _died(self) -> MirrorGoneError | PortInUseError:
        output = self._output()
        if self._port is not None and "couldn't bind HTTP server socket" in output:
            return _port_in_use(self._port)
        assert self._process is not None
        status = self._process.returncode
        how = f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
        lines = output.splitlines()[-TAIL_LINES:]
        return MirrorGoneError(
            f"llama-server ended with {how}; its last lines:\n  " + "\n  ".join(lines),
            subject=self._gguf,
            next_step=f"read the whole log: {self.log}",
        )

    def _output(self) -> str:
        with self.log.open("rb") as stream:
            stream.seek(self._log_start)
            return stream.read().decode(errors="replace")


def server_arguments(binary: Path, gguf: Path, policy: ServerPolicy, port: int) -> list[str]:
    """The command line of a server; port 0 lets the system choose one."""
    return [
        str(binary),
        *("--model", str(gguf)),
        *("--host", HOST),
        *("--port", str(port)),
        *("--parallel", str(policy.slots)),
        *("--ctx-size", str(policy.context * policy.slots)),
        *("--threads", str(policy.threads)),
        *("--threads-batch", str(policy.threads)),
        *("--cache-type-k", policy.cache_type_k),
        *("--cache-type-v", policy.cache_type_v),
        *("--flash-attn", policy.flash_attention),
        "--cache-prompt" if policy.prompt_cache else "--no-cache-prompt",
        # No prompts kept in RAM, no snapshots of the context, no sliding of a full context.
        *("--cache-ram", "0"),
        *("--ctx-checkpoints", "0"),
        "--no-context-shift",
        "--no-kv-unified",
        # The context asked for is the context used, whatever memory there is.
        *("--fit", "off"),
        "--no-webui",
        "--no-slots",
        "--offline",
        *("--log-colors", "off"),
    ]


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables that llama-server takes options from."""
    return {k: v for k, v in environment.items() if not k.startswith(("LLAMA_", "AIP_"))}


def listening_address(output: str) -> str | None:
    """The address that a server says it listens on, in its log so far."""
    found = re.search(r"listening on (http://[0-9.]+:\d+)\s", output)
    return found.group(1) if found else None


def check_port(port: int) -> None:
    """See before the start that a loopback port can be had.

    Raises:
        PortInUseError: it cannot.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the server does, so that a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _port_in_use(port) from error


def _port_in_use(port: int) -> PortInUseError:
    return PortInUseError(
        "this port is taken by another program, or not ours to take",
        subject=f"{HOST}:{port}",
        next_step="stop that program, name another port, or leave --port out",
    )
