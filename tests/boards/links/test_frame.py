"""Outputs between marks, whatever pieces they come in."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgequant.boards.links.frame import Framed, framed
from edgequant.boards.links.link import LinkBrokenError

TOKEN = "0123456789abcdef"
MARK = f"[edgequant:{TOKEN}]".encode()


class Said:
    """A command whose output is known."""

    def __init__(self, output: bytes, size: int) -> None:
        self._pieces = [output[at : at + size] for at in range(0, len(output), size)]

    def read(self, _seconds: float) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else b""

    def write(self, data: bytes) -> None: ...

    def close_stdin(self) -> None: ...

    def status(self) -> int:
        return 0

    def stderr(self) -> str:
        return ""

    def close(self) -> None: ...


def read_all(running: Framed) -> bytes:
    chunks = b""
    while (chunk := running.read(0)) != b"":
        chunks += chunk or b""
    return chunks


def output_of(command: str) -> bytes:
    return subprocess.run(["sh", "-c", framed(command, TOKEN)], stdout=subprocess.PIPE).stdout


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_real_shell_s_frame(size: int, terminal: bool) -> None:
    output = output_of("printf 'one\\ntwo'; echo wrong >&2; exit 7")
    if terminal:
        output = output.replace(b"\n", b"\r\n")
    running = Framed(Said(b"* daemon started\n" + output, size), TOKEN)
    assert read_all(running) == b"one\ntwo"
    assert (running.status(), running.stderr()) == (7, "wrong\n")


@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\r", b"[", b"[edge", MARK[:-1], b"]", b" 1"])),
    st.integers(1, 9),
)
def test_what_only_looks_like_a_mark_is_output(parts: list[bytes], size: int) -> None:
    stdout = b"".join(parts).replace(MARK, b"")
    output = MARK + b" 12\n" + stdout + MARK + b" 0\n" + MARK + b"\n"
    assert read_all(Framed(Said(output, size), TOKEN)) == stdout


def test_a_line_is_not_held_back_until_the_next() -> None:
    running = Framed(Said(MARK + b" 12\nline\n", 1000), TOKEN)
    assert running.read(0) == b"line\n"


@pytest.mark.parametrize("end", [b"", b" 0", b" 0\nhalf of stderr"])
def test_an_output_without_its_end(end: bytes) -> None:
    running = Framed(Said(MARK + b" 12\nhello\n" + MARK + end, 1000), TOKEN)
    with pytest.raises(LinkBrokenError):
        read_all(running)
        running.status()


def test_what_was_said_instead_of_a_frame() -> None:
    with pytest.raises(LinkBrokenError, match="Not match target founded"):
        read_all(Framed(Said(b"[Fail]Not match target founded\n", 1000), TOKEN))


def test_only_a_command_that_goes_on_is_ended_there() -> None:
    ended: list[int] = []
    whole = Framed(Said(output_of("true"), 1000), TOKEN, on_abandon=ended.append)
    read_all(whole)
    whole.status()
    whole.close()
    Framed(Said(MARK + b" 12\n", 1000), TOKEN, on_abandon=ended.append).close()
    left = Framed(Said(MARK + b" 12\nline\n", 1000), TOKEN, on_abandon=ended.append)
    left.read(0)
    left.close()
    assert ended == [12]
