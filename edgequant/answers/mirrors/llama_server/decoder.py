"""What each token adds to the text, as the server's own vocabulary has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Request = Callable[[str, str, object], dict[str, Any]]


class TokenDecoder:
    """Asks for each token once.

    Args:
        request: sends method, path and body, and gives the answer.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._pieces: dict[int, bytes] = {}
        self._control: dict[int, bool] = {}

    def pieces(self, ids: Sequence[int], *, text: str, ended: bool, cut: bool) -> list[bytes]:
        """The bytes that each of an answer's tokens adds to its text.

        Args:
            ids: all generated tokens.
            text: the answer's text, as the server gave it.
            ended: the last token ended the answer, and is no text.
            cut: a stop text cut off the end: the tokens say more than the text.
        """
        pieces = self._known(ids)
        if ended:
            pieces[-1] = b""
        if not cut and b"".join(pieces).decode(errors="replace") != text:
            # The server leaves the model's control tokens out of the text.
            pieces = [
                b"" if piece and self._is_control(token) else piece
                for token, piece in zip(ids, pieces, strict=True)
            ]
        return pieces

    def _known(self, ids: Sequence[int]) -> list[bytes]:
        unknown = [i for i in dict.fromkeys(ids) if i not in self._pieces]
        if unknown:
            answer = self._request("POST", "/tokenize", {"content": unknown, "with_pieces": True})
            for token in answer["tokens"]:
                piece = token["piece"]
                # Bytes that are no whole character come as a list of numbers.
                self._pieces[token["id"]] = (
                    piece.encode() if isinstance(piece, str) else bytes(piece)
                )
        return [self._pieces[i] for i in ids]

    def _is_control(self, token: int) -> bool:
        """Whether a token's text means that token only where special tokens are looked for."""
        if token not in self._control:
            text = self._pieces[token].decode(errors="replace")
            found = [
                self._request("POST", "/tokenize", {"content": text, "parse_special": special})
                for special in (True, False)
            ]
            self._control[token] = [f["tokens"] == [token] for f in found] == [True, False]
        return self._control[token]
