"""A demo with nothing left to do, against the same of an earlier commit.

    python benchmarks/idle_demo.py [COMMIT] [--rounds N]

Both read the same cache and each writes a run folder of its own. The earlier commit is checked out
into a temporary git worktree. First each runs as often as it takes until it has nothing new to
make (and its bytecode is compiled); then they take turns, and the figures are the least and the
median of wall-clock and of processor seconds, and the ratios ours / earlier. Processor seconds are
what a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
# The last one before tables were pandas frames.
EARLIER = "3f94e67"
RUN = "from edgequant.cli.app import main; main()"


@dataclass
class Side:
    """One checkout, and the (wall-clock, processor) seconds of its runs."""

    name: str
    checkout: Path
    out: Path
    bytecode: Path
    runs: list[tuple[float, float]] = field(default_factory=list)

    def run(self) -> tuple[float, float]:
        """One demo: its wall-clock and processor seconds, children's included."""
        environment = os.environ | {
            "PYTHONPATH": str(self.checkout),
            "PYTHONPYCACHEPREFIX": str(self.bytecode),
        }
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(
            [sys.executable, "-c", RUN, "demo", "--out", self.out],
            cwd=self.checkout,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def seconds(self, kind: int) -> list[float]:
        """Of every run: wall-clock (0) or processor (1) seconds."""
        return [run[kind] for run in self.runs]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("commit", nargs="?", default=EARLIER, help="the earlier commit")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, in turns")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="idle-demo-") as folder,
        checked_out(arguments.commit, Path(folder) / "earlier") as earlier,
    ):
        sides = [
            Side(name, checkout, Path(folder) / f"run-{name}", Path(folder) / f"bytecode-{name}")
            for name, checkout in (("ours", REPOSITORY), ("earlier", earlier))
        ]
        for side in sides:
            # The first may have to make what the cache lacks, the second compiles nothing more.
            side.run()
            side.run()
        for round_number in range(arguments.rounds):
            for side in sides if round_number % 2 else sides[::-1]:
                side.runs.append(side.run())
    show(*sides)


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A worktree of the commit, for as long as it is needed."""
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", folder, commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", folder], check=True)


def show(ours: Side, earlier: Side) -> None:
    """One Markdown row for each kind of seconds."""
    print("| seconds | ours: least, median | earlier: least, median | ratio of least, of median |")
    print("|---|---|---|---|")
    for kind, name in enumerate(("wall-clock", "processor")):
        least = [min(side.seconds(kind)) for side in (ours, earlier)]
        middle = [statistics.median(side.seconds(kind)) for side in (ours, earlier)]
        print(
            f"| {name} | {least[0]:.2f}, {middle[0]:.2f} | {least[1]:.2f}, {middle[1]:.2f} "
            f"| {least[0] / least[1]:.2f}, {middle[0] / middle[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
