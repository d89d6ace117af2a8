"""The tokenizer of the stand-in for llama-server: a token for each byte."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgequant.answers.prompts import Message
from edgequant.core.errors import ConversionError
from edgequant.models.model_file import ModelFile

BOS, EOS = 1, 2
SPECIAL = ("<unk>", "<s>", "</s>")


@dataclass(frozen=True)
class FakeTokenizer:
    """UTF-8 bytes are the tokens 3 to 258; BOS is 1, EOS 2."""

    has_template: bool = True
    size: int = 259
    end_token: int = EOS

    def is_end(self, token: int) -> bool:
        return token == EOS

    def piece(self, token: int) -> bytes:
        return bytes([token - 3]) if token >= len(SPECIAL) else b""

    def tokenize(self, text: str, *, add_special: bool) -> tuple[int, ...]:
        ids = [BOS] if add_special else []
        if text.startswith(SPECIAL[BOS]):
            ids.append(BOS)
            text = text.removeprefix(SPECIAL[BOS])
        return (*ids, *(byte + 3 for byte in text.encode()))

    def apply_template(self, messages: Sequence[Message]) -> str:
        if not self.has_template:
            raise ConversionError("this GGUF has no chat template")
        turns = "".join(f"[{m['role']}]{m['content']}" for m in messages)
        return f"<s>{turns}[assistant]"


@contextlib.contextmanager
def fake_tokenizer(_model: ModelFile) -> Iterator[FakeTokenizer]:
    """As a pool opens it."""
    yield FakeTokenizer()
