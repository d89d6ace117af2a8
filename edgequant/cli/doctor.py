"""``edgequant doctor``: what is installed, what is missing, how to get it."""

from __future__ import annotations

import sys

import typer

from edgequant.cli.output import JSON_OPTION, echo, print_json, print_table


def command(
    self_test: bool = typer.Option(
        False, "--self-test", help="Also compile, check and run small programs: some seconds."
    ),
    target: str | None = typer.Option(
        None, "--target", "-t", help="A board or target for the self-test."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Check what is installed and print the command for whatever is missing.

    Example: edgequant doctor --self-test
    """
    from edgequant.core.errors import ToolMissingError
    from edgequant.doctor.checks import GROUPS, checks, missing_required

    if target is not None and not self_test:
        raise typer.BadParameter("--target is for --self-test")
    found = checks()
    missing = missing_required(found)
    tests, broken = [], []
    if self_test:
        from edgequant.doctor.self_test import DEFAULT_TARGET, failed, run_self_test

        tests = run_self_test(target or DEFAULT_TARGET)
        broken = failed(tests)
    if as_json:
        result: dict[str, object] = {
            "ok": not missing and not broken,
            "checks": [check.as_dict() for check in found],
        }
        if self_test:
            result["self_test"] = [test.as_dict() for test in tests]
        print_json(result)
    else:
        rows = []
        for group in GROUPS:
            members = [check for check in found if check.group == group]
            for index, c in enumerate(members):
                state = "ok" if c.ok else "MISSING" if c.required else "absent"
                rows.append([group if index == 0 else "", state, c.name, c.detail])
        print_table(["for", "", "what", "found"], rows)
        for check in found:
            if check.install is not None:
                kind = "needed" if check.required else "optional"
                echo(f"{check.name} ({kind}): {check.install}")
        if tests:
            print_table(
                ["way", "", "program", "seconds", "result"],
                [
                    [
                        test.way,
                        {True: "ok", False: "FAILED", None: "–"}[test.ok],
                        test.program,
                        test.seconds,
                        test.detail,
                    ]
                    for test in tests
                ],
                title=f"Self-test for {target or DEFAULT_TARGET}",
            )
        if not missing:
            echo("Everything that is needed is here.")
    problems = [f"missing: {', '.join(check.name for check in missing)}"] if missing else []
    problems += [f"the self-test failed: {test.way}, {test.program}" for test in broken]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(ToolMissingError.exit_code)
