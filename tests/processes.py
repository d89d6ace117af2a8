"""What tests look at of other processes."""

from __future__ import annotations

import time
from pathlib import Path


def ended(pid: int | str, seconds: float = 20.0) -> bool:
    """Whether a process ends soon; one that nobody has waited for yet has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
