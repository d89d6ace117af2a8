"""Run as a process: verifies pairs of JSON lines ``[expected, content]``, answers true or false."""

from __future__ import annotations

import functools
import json
import resource
import sys
from typing import Any

_MEMORY_BYTES = 4 * 2**30
_SECONDS = 4
"""After which the package itself gives up."""


def main() -> None:
    """Answer line by line until stdin ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    for line in sys.stdin:
        expected, content = json.loads(line)
        sys.stdout.write(json.dumps(verify_content(expected, content)) + "\n")
        sys.stdout.flush()


def verify_content(expected: str, content: str) -> bool:
    """The expected answer first: the comparison is not symmetric."""
    from math_verify import verify

    try:
        return bool(verify(_parse(expected), _parse(content), timeout_seconds=_SECONDS))
    except Exception:
        # Strangers' text in somebody else's parser: whatever it raises, this is no agreement.
        return False


@functools.lru_cache(maxsize=65_536)
def _parse(content: str) -> list[Any]:
    from math_verify import parse

    boxed: list[Any] = parse(f"\\boxed{{{content}}}", parsing_timeout=_SECONDS)
    return boxed


if __name__ == "__main__":
    main()
