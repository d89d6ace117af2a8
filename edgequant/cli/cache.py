"""``edgequant cache``: what lies in the cache, and removing what is no longer needed."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table

if TYPE_CHECKING:
    from edgequant.core.cache_contents import Entry

app = typer.Typer(no_args_is_help=True, help="List and prune the cache.")

UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
KIND_OPTION = typer.Option(
    None, "--kind", help="Only this kind, as `cache ls` shows it; repeatable. Above: all below."
)
OLDER_OPTION = typer.Option(
    None, "--older-than", metavar="AGE", help="Only what was not used for so long: 12h, 30d, 2w."
)
KEEP_OPTION = typer.Option(
    None, "--keep", metavar="RUN", help="Keep all that this run folder names; repeatable."
)


@app.command("ls")
def cache_ls(kind: list[str] | None = KIND_OPTION, as_json: bool = JSON_OPTION) -> None:
    """List what lies in the cache, with its size and when it was last used.

    Example: edgequant cache ls --kind artefacts
    """
    from edgequant.core.cache_contents import choose, list_cache
    from edgequant.core.paths import cache_root

    now = time.time()
    listed = list_cache(cache_root())
    used = {entry.path for entry in listed if entry.in_use}
    entries = [e for e in listed if e in choose(listed, now=now, kinds=kind or ()) or e.in_use]
    if as_json:
        print_json(
            [
                {
                    "kind": e.kind,
                    "name": e.name,
                    "path": str(e.path),
                    "bytes": e.bytes,
                    "age_seconds": round(e.age_seconds(now)),
                    "in_use": e.in_use,
                }
                for e in entries
            ]
        )
        return
    print_table(
        ["kind", "name", "MB", "last used"],
        [
            (e.kind, e.name, f"{e.bytes / 1e6:.1f}", "now" if e.path in used else _age(e, now))
            for e in entries
        ],
        title=f"{cache_root()}: {sum(e.bytes for e in entries) / 1e6:.0f} MB",
    )


@app.command("prune")
def cache_prune(
    older_than: str | None = OLDER_OPTION,
    kind: list[str] | None = KIND_OPTION,
    keep: list[Path] | None = KEEP_OPTION,
    everything: bool = typer.Option(False, "--all", help="Whatever its age and kind."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say what would be removed."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Remove what is no longer needed; what some process uses just now stays.

    Everything can be made again: removing costs only time.

    Example: edgequant cache prune --older-than 30d --keep runs/demo
    """
    from edgequant.core.cache_contents import choose, list_cache, remove
    from edgequant.core.paths import cache_root

    if older_than is None and not kind and not everything:
        raise typer.BadParameter("give --older-than AGE, --kind KIND or --all")
    now = time.time()
    chosen = choose(
        list_cache(cache_root()),
        now=now,
        older_than_seconds=0.0 if older_than is None else _seconds(older_than),
        kinds=kind or (),
        kept={name for run in keep or [] for name in _named_by(run)},
    )
    if not dry_run:
        # What came into use since it was listed stays.
        chosen = [entry for entry in chosen if remove(entry)]
    size = sum(entry.bytes for entry in chosen)
    if as_json:
        print_json({"removed": not dry_run, "bytes": size, "paths": [str(e.path) for e in chosen]})
        return
    for entry in chosen:
        echo(f"{entry.bytes / 1e6:9.1f} MB  {entry.kind}/{entry.name}")
    echo(f"{size / 1e6:9.1f} MB {'would be removed' if dry_run else 'removed'}")


def _named_by(run: Path) -> set[str]:
    from edgequant.core.cache_contents import named_by
    from edgequant.core.errors import ArtefactError

    manifest = run / "manifest.json"
    try:
        return named_by(manifest)
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"no manifest can be read here: {error}",
            subject=run,
            next_step="give a folder that edgequant sweep or demo has written",
        ) from error


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([mhdw])", age)
    if found is None:
        raise typer.BadParameter(f"{age!r} is no age such as 12h or 30d", param_hint="--older-than")
    return float(found[1]) * UNITS[found[2]]


def _age(entry: Entry, now: float) -> str:
    seconds = entry.age_seconds(now)
    for unit in ("w", "d", "h", "m"):
        if seconds >= 2 * UNITS[unit]:
            return f"{seconds / UNITS[unit]:.0f} {unit} ago"
    return "just now"
