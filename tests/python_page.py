"""The examples of docs/python.md, section by section."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def examples(*titles: str) -> str:
    """The code of some sections, one after another.

    Raises:
        KeyError: the page has no such section.
    """
    text = PAGE.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    return "\n".join(
        block
        for title in titles
        for block in re.findall(r"^```python\n(.*?)^```", sections[title], re.MULTILINE | re.DOTALL)
    )
