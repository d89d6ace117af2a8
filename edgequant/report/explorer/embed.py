"""Data for a page's script: packed, and nothing in it can end the element that holds it."""

from __future__ import annotations

import base64
import json
import zlib


def packed(value: object) -> str:
    """JSON, compressed (zlib, which browsers call ``deflate``), in base64."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def data_url(text: str, media_type: str) -> str:
    """A file inside a link."""
    return f"data:{media_type};base64,{base64.b64encode(text.encode()).decode()}"
