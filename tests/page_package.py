"""The package that a page of the docs describes, installed as its reader would have it."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def block(page: str, language: str, number: int = 0) -> str:
    """One of a page's examples."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return str(re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)[number])


def install(page: str, module: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``my_package`` with a page's first Python example, and the entry points of its first TOML."""
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    (folder / "my_package" / f"{module}.py").write_text(block(page, "python"))
    points = tomllib.loads(block(page, "toml"))["project"]["entry-points"]
    info = folder / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in members.items())
            for group, members in points.items()
        )
    )
    monkeypatch.syspath_prepend(str(folder))
    # Another test's package of the same name must not be what is imported.
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    monkeypatch.delitem(sys.modules, f"my_package.{module}", raising=False)
