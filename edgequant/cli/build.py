"""``edgequant build``: static binaries for a board, or tools for this host."""

from __future__ import annotations

from pathlib import Path

import typer

from edgequant.cli.output import JSON_OPTION, print_json, print_table


def command(
    target: str = typer.Option(
        ..., "--target", "-t", help="A board (rk3568), an ISA level (armv8-a), or host."
    ),
    tool: list[str] = typer.Option(
        [], "--tool", help="Build only this program; give it again for more."
    ),
    source: Path | None = typer.Option(
        None, "--source", help="Another llama.cpp than the pinned one: a checkout or a tarball."
    ),
    way: str = typer.Option(
        "zig", "--with", help="zig (needs only Python packages), gcc, or container."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Build static binaries for a board, or the tools of this host.

    Example: edgequant build --target rk3568 --tool llama-bench
    """
    from edgequant.toolchain.build import build

    built = build(target, tools=tool or None, source=source, way=way)
    manifest = built.artefact.manifest
    files = {name: manifest.files[f"bin/{name}"] for name in sorted(built.binaries)}
    if as_json:
        print_json(
            {
                "target": built.target.name,
                "key": built.key,
                "folder": str(built.artefact.folder),
                "llama_cpp_commit": built.llama_cpp_commit,
                "reused": built.reused,
                "way": manifest.details.get("way"),
                "compiler": manifest.details.get("compiler"),
                "flags": manifest.details.get("flags"),
                "timings": manifest.timings,
                "binaries": {
                    name: {
                        "path": str(built.binary(name)),
                        "bytes": record.bytes,
                        "sha256": record.sha256,
                    }
                    for name, record in files.items()
                },
            }
        )
        return
    print_table(
        ["binary", "bytes", "SHA-256"],
        [[name, record.bytes, record.sha256] for name, record in files.items()],
        title=f"{built.target.name}, llama.cpp {built.llama_cpp_commit}"
        + (" (already built)" if built.reused else ""),
    )
    typer.echo(f"in {built.artefact.folder / 'bin'}")
