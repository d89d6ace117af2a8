"""The numbers in a GGUF's tensors: are they any? Looked at while the file is hashed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgequant.core.hashing import sha256_file
from edgequant.models.formats.gguf import Tensor, read_gguf

EXPONENTS = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}
"""The bits of a number's exponent: all of them are set in NaN and in infinite values only."""


class FiniteCheck:
    """Told of a file's content piece by piece, finds the first tensor that has no numbers.

    Args:
        tensors: of 16- or 32-bit floats, the others are passed over; ordered as they lie.
    """

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self._left = [tensor for tensor in tensors if tensor.type in EXPONENTS and tensor.bytes]
        self.not_finite: str | None = None

    def look(self, offset: int, content: memoryview) -> None:
        """Look at the next piece; pieces begin at multiples of four bytes of the file."""
        end = offset + len(content)
        while self._left and self._left[0].offset < end:
            tensor = self._left[0]
            last = tensor.offset + tensor.bytes
            part = content[max(tensor.offset - offset, 0) : last - offset]
            if self.not_finite is None and not _finite(part, tensor.type):
                self.not_finite = tensor.name
            if last > end:
                return
            del self._left[0]


def _finite(content: memoryview, kind: str) -> bool:
    import numpy as np

    number, exponent = EXPONENTS[kind]
    bits = np.frombuffer(content, number) & exponent
    return not bits.size or bool(bits.max() < exponent)


@contextlib.contextmanager
def reading_through(gguf: Path) -> Iterator[Callable[[], str | None]]:
    """Hash a file and look at its numbers beside what the block does; the hash is remembered.

    Yields:
        What waits for the end of it, and returns the name of the first 16- or 32-bit float tensor
        that holds NaN or an infinite value. Nobody has to ask: then it is broken off.
    """
    check = FiniteCheck(read_gguf(gguf).tensors)
    over = threading.Event()

    def look(offset: int, content: memoryview) -> None:
        if over.is_set():
            raise InterruptedError
        check.look(offset, content)

    def read() -> str | None:
        sha256_file(gguf, look=look)
        return check.not_finite

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(read)
        try:
            yield found.result
        finally:
            over.set()
