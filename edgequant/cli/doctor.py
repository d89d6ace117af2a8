"""``edgequant doctor``: what is installed, what is missing, how to get it."""

from __future__ import annotations

import sys

import typer

from edgequant.cli.output import JSON_OPTION, print_json, print_table


def command(as_json: bool = JSON_OPTION) -> None:
    """Check what is installed and print the command for whatever is missing.

    Example: edgequant doctor
    """
    from edgequant.core.errors import ToolMissingError
    from edgequant.toolchain.doctor import checks, missing_required

    found = checks()
    missing = missing_required(found)
    if as_json:
        print_json({"ok": not missing, "checks": [check.as_dict() for check in found]})
    else:
        print_table(
            ["", "what", "found"],
            [
                ["ok" if c.ok else "MISSING" if c.required else "absent", c.name, c.detail]
                for c in found
            ],
        )
        for check in found:
            if check.install is not None:
                kind = "needed" if check.required else "optional"
                typer.echo(f"{check.name} ({kind}): {check.install}")
        if not missing:
            typer.echo("Everything that is needed is here.")
    if missing:
        names = ", ".join(check.name for check in missing)
        print(f"error: missing: {names}", file=sys.stderr)
        raise typer.Exit(ToolMissingError.exit_code)
