"""An image so small that every engine can be asked to build it: one program, which does nothing."""

from __future__ import annotations

import platform
from pathlib import Path

from edgequant.build.idle_program import idle_program

DOCKERFILE = """\
FROM scratch AS tried
COPY nothing /nothing
RUN ["/nothing"]
FROM scratch
COPY --from=tried /nothing /
"""


def write_smallest_image(folder: Path) -> Path:
    """Write the image's Dockerfile and program; returns the Dockerfile."""
    folder.mkdir(parents=True, exist_ok=True)
    program = idle_program(platform.machine())
    dockerfile = folder / "Dockerfile"
    if program is None:
        # Without a program at least storage and output are tried.
        dockerfile.write_text("FROM scratch\nCOPY Dockerfile /nothing\n", encoding="ascii")
        return dockerfile
    (folder / "nothing").write_bytes(program)
    (folder / "nothing").chmod(0o755)
    dockerfile.write_text(DOCKERFILE, encoding="ascii")
    return dockerfile
