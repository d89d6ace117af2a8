"""One figure as the page and the run folder hold it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgequant.report.style import GRID, INK, MUTED, PAPER

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: of its files, without suffix.
        group: which section of the page it belongs to.
        title: what it shows, one line.
        description: the same with the values, for a reader who cannot see it.
        svg: a whole SVG file.
        columns: of what was drawn.
        rows: what was drawn, as plain values; a row may hold more than the columns.
    """

    name: str
    group: str
    title: str
    description: str
    svg: str
    columns: Sequence[str]
    rows: Sequence[Row]

    def inline(self) -> str:
        """The SVG for inside the page: its inks follow the page's theme, its ids are its own."""
        body = self.svg[self.svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
        body = re.sub(r'\bid="', f'id="{self.name}-', body)
        body = body.replace("url(#", f"url(#{self.name}-")
        body = body.replace('href="#', f'href="#{self.name}-')
        for colour, variable in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid"), (PAPER, "paper")):
            body = body.replace(colour, f"var(--{variable})")
        words = html.escape(f"{self.title}. {self.description}")
        return re.sub(
            r"<svg\b[^>]*?(viewBox=\"[^\"]*\")[^>]*>",
            lambda found: (
                f'<svg {found[1]} xmlns="http://www.w3.org/2000/svg" role="img" '
                f'aria-label="{words}">'
            ),
            body,
            count=1,
            flags=re.DOTALL,
        )


def slug(text: str) -> str:
    """A part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
