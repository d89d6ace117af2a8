"""``edgequant toolchain``: the support matrix, the source, and moving the pin."""

from __future__ import annotations

from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table

app = typer.Typer(
    help="Show what can be built here, get the source, move the pin.\n\n"
    "Example: edgequant toolchain targets",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("targets")
def list_targets(as_json: bool = JSON_OPTION) -> None:
    """List the targets: for which boards, what their CPU needs, how they can be built here.

    Example: edgequant toolchain targets
    """
    from edgequant.boards.profile import list_profiles
    from edgequant.build.matrix import cached_builds, make_matrix, ways_here
    from edgequant.build.targets.target import load_target, target_names
    from edgequant.core.paths import cache_root

    rows = make_matrix(
        [load_target(name) for name in target_names()],
        {name: profile.build.target for name, profile in list_profiles().items()},
        ways_here,
        cached_builds(cache_root()),
    )
    if as_json:
        print_json([row.as_dict() for row in rows])
        return
    ways = [state.way for state in rows[0].ways] if rows else []
    print_table(
        ["target", "CPU features", "boards", *ways, "built"],
        [
            [
                row.target,
                " ".join(row.features) or ("any" if row.target != "host" else row.architecture),
                " ".join(row.boards) or None,
                *("yes" if state.available else "no" for state in row.ways),
                " ".join(dict.fromkeys(build.way for build in row.builds)) or None,
            ]
            for row in rows
        ],
    )
    for row in rows:
        echo(f"{row.target}: {row.description}")
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for state in row.ways:
            if not state.available:
                reasons.setdefault(f"{state.way}: {state.detail}", []).append(row.target)
    for reason, names in reasons.items():
        echo(f"no {reason} ({', '.join(names)})")


@app.command("update")
def update_lock(
    version: str = typer.Argument(help="A version of llama-cpp-python, for example 0.3.36."),
    lock: Path | None = typer.Option(
        None,
        "--lock",
        help="The lock file to rewrite; by default the one in force, and in an installed "
        "edgequant toolchain/llama_cpp.lock.toml where you are.",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Fetch and verify, but write nothing."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Fetch another version's llama.cpp, verify it, and make the lock file name it.

    Example: edgequant toolchain update 0.3.36
    """
    from edgequant.build.source.update import update

    done = update(version, lock=lock, dry_run=dry_run)
    old, new = done.old.model_dump(), done.new.model_dump()
    if as_json:
        print_json(
            {
                "lock": str(done.path),
                "old": old,
                "new": new,
                "written": done.written,
            }
        )
        return
    if done.same:
        echo(f"{done.path}: names {new['project']} {new['version']} already; nothing to do.")
        return
    rows = [[key, old[key], new[key]] for key in ("version", "llama_cpp_commit", "sha256")]
    print_table(["", "old", "new"], rows, title=new["project"])
    if not done.written:
        echo(f"Dry run: {done.path} is as it was.")
        return
    echo(f"wrote {done.path}")
    echo("next: edgequant build --target host")
    echo("      edgequant build --target BOARD, for each of your boards")
    echo("      then quantize, measure and generate anew: all stages follow the lock")
    echo(f"back: edgequant toolchain update {old['version']}")


@app.command("source")
def show_source(
    source: Path | None = typer.Option(
        None, "--source", help="Another llama.cpp than the pinned one: a checkout or a tarball."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Fetch and unpack llama.cpp's source, unless it is there, and say where it is.

    Example: edgequant toolchain source
    """
    from edgequant.build.source.lock import load_lock, lock_path
    from edgequant.build.source.tree import fetch_source, local_source

    lock = load_lock() if source is None else None
    if lock is not None:
        tree = fetch_source(lock)
    else:
        assert source is not None
        tree = local_source(source)
    result = {
        "folder": str(tree.folder),
        "llama_cpp_commit": tree.commit,
        "sha256": tree.sha256,
        "archive": None if lock is None else f"{lock.project} {lock.version}",
        "lock": None if lock is None else str(lock_path()),
    }
    if as_json:
        print_json(result)
        return
    for key, value in result.items():
        if value is not None:
            echo(f"{key.replace('_', ' ')}: {value}")
