"""Strangers' text on a terminal."""

from __future__ import annotations

import re

# C0 without tab and newline, DEL, C1, marks that turn the direction of writing, lone surrogates.
_UNPRINTED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    """The text with what would steer a terminal, or hide, written as its code (``\\x1b``)."""
    return _UNPRINTED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
