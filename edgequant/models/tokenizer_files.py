"""What a folder's tokenizer files say of themselves: settings, special tokens, chat template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgequant.core.json_file import read_json

TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


@dataclass(frozen=True)
class TokenizerFiles:
    """Read without transformers; a file that is missing or damaged says nothing."""

    settings: Mapping[str, Any]
    """``tokenizer_config.json``."""
    added_tokens: frozenset[str]
    """Of ``tokenizer.json``."""
    special_tokens: frozenset[str]
    """Of ``tokenizer_config.json``."""
    has_sentencepiece: bool
    has_chat_template: bool


def read_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Look through a Hugging Face folder."""
    settings = _object(folder / "tokenizer_config.json")
    added = _object(folder / "tokenizer.json").get("added_tokens")
    decoder = settings.get("added_tokens_decoder")
    return TokenizerFiles(
        settings=settings,
        added_tokens=_contents(added if isinstance(added, list) else []),
        special_tokens=_contents(list(decoder.values()) if isinstance(decoder, dict) else [])
        | _named_tokens(settings),
        has_sentencepiece=(folder / "tokenizer.model").is_file(),
        has_chat_template=bool(settings.get("chat_template"))
        or any((folder / name).is_file() for name in TEMPLATE_FILES),
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _contents(tokens: list[Any]) -> frozenset[str]:
    return frozenset(str(token["content"]) for token in tokens if _has_content(token))


def _named_tokens(settings: Mapping[str, Any]) -> frozenset[str]:
    """bos_token and the like, each a text or an object."""
    named = [value for key, value in settings.items() if key.endswith("_token")]
    more = settings.get("additional_special_tokens")
    named += more if isinstance(more, list) else []
    texts = {value for value in named if isinstance(value, str)}
    return frozenset(texts) | _contents(named)


def _has_content(token: Any) -> bool:
    return isinstance(token, dict) and "content" in token
