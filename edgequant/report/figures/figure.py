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
        svg: a whole SVG file, for a place of at least 400 pixels.
        narrow_svg: the same drawn for a phone.
        columns: of what was drawn.
        rows: what was drawn, as plain values; a row may hold more than the columns.
    """

    name: str
    group: str
    title: str
    description: str
    svg: str
    narrow_svg: str
    columns: Sequence[str]
    rows: Sequence[Row]

    def inline(self) -> str:
        """Both drawings for inside the page, of which its style shows the one that fits."""
        return self._drawing(self.svg, "wide") + self._drawing(self.narrow_svg, "narrow")

    def _drawing(self, svg: str, width: str) -> str:
        """The SVG's inks follow the page's theme, its ids are its own."""
        body = svg[svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
        own = f"{self.name}-{width}"
        body = re.sub(r'\bid="', f'id="{own}-', body)
        body = body.replace("url(#", f"url(#{own}-").replace('href="#', f'href="#{own}-')
        for colour, variable in ((INK, "ink"), (MUTED, "muted"), (GRID, "grid"), (PAPER, "paper")):
            body = body.replace(colour, f"var(--{variable})")
        words = html.escape(f"{self.title}. {self.description}")
        return re.sub(
            r"<svg\b[^>]*?(viewBox=\"[^\"]*\")[^>]*>",
            lambda found: (
                f'<svg class="{width}" {found[1]} xmlns="http://www.w3.org/2000/svg" role="img" '
                f'aria-label="{words}">'
            ),
            body,
            count=1,
            flags=re.DOTALL,
        )


def slug(text: str) -> str:
    """A part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"
