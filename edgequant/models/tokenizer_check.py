"""Does the GGUF's tokenizer cut text just as the Hugging Face tokenizer does?

A conversion can succeed and still yield another tokenizer: chat markers cut into pieces, a
token more at the beginning, spaces joined differently. The model then sees another prompt than
the one it was trained on, and all that is measured later is silently wrong.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgequant.core.errors import (
    ModelFolderError,
    PromptError,
    TokenizerMismatchError,
)
from edgequant.core.json_file import parse_json
from edgequant.core.paths import list_data_files
from edgequant.core.progress import say, task
from edgequant.core.toml_file import read_toml
from edgequant.core.warm import warmed
from edgequant.models.folder import model_name
from edgequant.models.formats.gguf import read_tokens
from edgequant.models.hf_tokenizer import MARKER
from edgequant.models.tokenizer_files import TokenizerFiles, read_tokenizer_files
from edgequant.models.vocabulary import Vocabulary

CHECK_VERSION = 1
"""Part of the artefact's key: raise it when the check becomes stricter."""

TIMEOUT_SECONDS = 600.0
CONTEXT_TOKENS = 4
"""Tokens shown on each side of the first difference."""

SPECIAL_TEXTS = 3
"""So many texts are also compared with the tokens that are put around them."""

CHATML = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
CHATML_MARKERS = ("<|im_start|>", "<|im_end|>")

SYSTEM_TEXTS = ("Conclude with your final answer within \\boxed{}.",)
"""Beside those of the prompt files."""

QUESTIONS = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in "
    "May. How many clips did she sell altogether in April and May?",
    "A robe takes 2 bolts of blue fiber and half that much white fiber. How many bolts in total "
    "does it take?",
    "James pays $1,250.75 for 3 items (tax: 8.5%). What's 25% of that?",
)

PLAIN_TEXTS = (
    "I believe the meaning of life is",
    "0 1 12 123 1234 12345 1234567890 3.14159 -7 1,000,000 2+2=4 48/2=24",
    "one\ntwo\n\nthree\n\n\nfour\n",
    "  two leading spaces,  two inside, two trailing  ",
    " one leading space",
    "\n leading newline",
    "\ttab\tand \t mixed",
    "<<48/2=24>> #### 72 \\boxed{72} **UNDER 50 tokens** `code` {a: [1, 2]}",
    "café naïve Ünïcödé ½ € — “quotes” …",
    "数学 問題 مرحبا Привет 한국어",
    "😀 👩‍👩‍👧 🇩🇪",
    "don't DON'T we'll CamelCase snake_case kebab-case http://example.org/?a=1&b=2",
)


@dataclass(frozen=True)
class Tokenization:
    """Token ids of one text and their pieces."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Where two tokenizations of one text part."""

    text: str
    index: int
    hugging_face: Tokenization
    gguf: Tokenization

    @property
    def hugging_face_piece(self) -> str:
        """The first differing piece on the Hugging Face side, "" where its text has ended."""
        return "".join(self.hugging_face.pieces[self.index : self.index + 1])

    @property
    def gguf_piece(self) -> str:
        """The first differing piece on the GGUF's side, "" where its text has ended."""
        return "".join(self.gguf.pieces[self.index : self.index + 1])

    def describe(self) -> str:
        """A few lines: the text, the place, and the tokens on each side."""
        return (
            f"the GGUF's tokenizer differs from the Hugging Face tokenizer at token {self.index}\n"
            f"  text:         {self.text!r}\n"
            f"  Hugging Face: {_excerpt(self.hugging_face, self.index)}\n"
            f"  GGUF:         {_excerpt(self.gguf, self.index)}"
        )


@dataclass(frozen=True)
class TokenizerReport:
    """What was compared, for the manifest."""

    texts: int
    tokens: int
    chat_template: bool
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "texts": self.texts,
            "tokens": self.tokens,
            "chat_template": self.chat_template,
            "warnings": list(self.warnings),
        }


def first_difference(
    text: str, hugging_face: Tokenization, gguf: Tokenization
) -> Difference | None:
    """Compare two tokenizations; a missing token at the end is a difference too."""
    if hugging_face.ids == gguf.ids:
        return None
    index = next(
        (i for i, (a, b) in enumerate(zip(hugging_face.ids, gguf.ids, strict=False)) if a != b),
        min(len(hugging_face.ids), len(gguf.ids)),
    )
    return Difference(text, index, hugging_face, gguf)


def cut_markers(
    markers: Mapping[str, int | None], pieces_of: Mapping[str, Tokenization]
) -> tuple[list[str], list[str]]:
    """Sort out the chat markers that are not single tokens.

    Args:
        markers: each marker with its id in the vocabulary, or None.
        pieces_of: how each marker is tokenized when it stands alone.

    Returns:
        Those in the vocabulary that are cut all the same (the tokenizer is broken), and those
        that are plain text to this model (some models are trained that way).
    """
    broken: list[str] = []
    plain: list[str] = []
    for marker, number in sorted(markers.items()):
        # SentencePiece may put its space in front of a text; the marker itself is whole.
        pairs = zip(pieces_of[marker].ids, pieces_of[marker].pieces, strict=True)
        whole = [i for i, piece in pairs if piece not in {"▁", " ", "Ġ"}] == [number]
        if number is None:
            plain.append(marker)
        elif not whole:
            broken.append(marker)
    return broken, plain


def check_texts() -> list[str]:
    """All texts to compare: chat-formatted with every prompt file's texts, and plain ones."""
    systems = list(dict.fromkeys([*SYSTEM_TEXTS, *_prompt_file_texts()]))
    chats = [CHATML.format(system=system, user=QUESTIONS[0]) for system in systems]
    chats += [CHATML.format(system=SYSTEM_TEXTS[0], user=question) for question in QUESTIONS]
    chats = [chat + "<|im_start|>assistant\n" for chat in chats]
    return list(dict.fromkeys([*chats, *CHATML_MARKERS, *QUESTIONS, *PLAIN_TEXTS]))


def check_tokenizer(folder: Path, gguf: Path, library: Path) -> TokenizerReport:
    """Compare both tokenizers on many texts.

    All are compared bare, and some also with the tokens that are put around a text (BOS).

    Args:
        folder: Hugging Face model folder.
        gguf: the file converted from it.
        library: the host build's ``libllama.so``.

    Raises:
        TokenizerMismatchError: they differ; the message shows the first differing token.
        ModelFolderError: transformers cannot load the folder's tokenizer.
        ConversionError: llama.cpp cannot load the GGUF's tokenizer.
    """
    answer = _ask_hugging_face(folder, check_texts())
    template_results = answer["results"][len(answer["results"]) - answer["rendered"] :]
    template_texts = [result["text"] for result in template_results]
    pieces = read_tokens(gguf)
    compared = 0
    with (
        Vocabulary(gguf, library) as vocabulary,
        task(f"Comparing tokenizers of {gguf.stem}", total=len(answer["results"])) as shown,
    ):

        def tokenize(text: str, *, special: bool) -> Tokenization:
            ids = vocabulary.tokenize(text, add_special=special)
            return Tokenization(ids, tuple(_piece(pieces, number) for number in ids))

        for number, result in enumerate(answer["results"]):
            # What is put around a text does not depend on the text: few need the second look.
            both = number < SPECIAL_TEXTS or result in template_results
            for special in (False, True) if both else (False,):
                kind = "special" if special else "plain"
                expected = Tokenization(tuple(result[kind]), tuple(result[f"{kind}_pieces"]))
                got = tokenize(result["text"], special=special)
                difference = first_difference(result["text"], expected, got)
                if difference is not None:
                    raise _mismatch(difference, folder)
                compared += len(got.ids)
            shown.advance()
        used = {m: n for m, n in answer["markers"].items() if m in "".join(template_texts)}
        markers = used or answer["markers"]
        broken, plain = cut_markers(markers, {m: tokenize(m, special=False) for m in markers})
    if broken:
        raise TokenizerMismatchError(
            f"the chat marker {broken[0]} is in the vocabulary, but both tokenizers cut it into "
            "pieces: it is not marked as a special token, and the model would never see it",
            subject=folder,
            next_step='list it as special in tokenizer.json ("added_tokens") and as a control '
            "or user-defined piece in tokenizer.model",
        )
    warnings = tuple(
        f"the chat marker {marker} is no token of this model: it is cut into pieces, in the "
        "Hugging Face tokenizer too"
        for marker in plain
    )
    for warning in warnings:
        say(f"warning: {warning}")
    return TokenizerReport(len(answer["results"]), compared, bool(template_texts), warnings)


def _ask_hugging_face(folder: Path, texts: Sequence[str]) -> dict[str, Any]:
    # Tokenizers need no torch, and importing it takes longer than all of the rest.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "USE_TORCH": "0", "USE_TF": "0"}
    with task(f"Loading the Hugging Face tokenizer of {model_name(folder)}"):
        done = subprocess.run(
            warmed([sys.executable, "-m", "edgequant.models.hf_tokenizer", folder]),
            input=json.dumps({"texts": list(texts)}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=environment,
            check=False,
        )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ModelFolderError(
            f"transformers cannot load its tokenizer: {last[0]}",
            subject=folder,
            next_step="check tokenizer_config.json and the tokenizer's files",
        )
    answer: dict[str, Any] = parse_json(done.stdout)
    return answer


def _mismatch(difference: Difference, folder: Path) -> TokenizerMismatchError:
    return TokenizerMismatchError(
        difference.describe(),
        subject=folder,
        next_step=remedy(difference, read_tokenizer_files(folder)),
    )


def remedy(difference: Difference, files: TokenizerFiles) -> str:
    """What is most likely wrong in the folder, told by how the tokens differ.

    Args:
        difference: where they part.
        files: what the folder's files say already: nothing is advised that stands there.
    """
    ours, theirs = difference.gguf, difference.hugging_face
    piece = difference.gguf_piece
    expected = difference.hugging_face_piece
    if ours.ids[1:] == theirs.ids or theirs.ids[1:] == ours.ids:
        return _remedy_for_bos(ours, theirs, files)
    if MARKER.fullmatch(expected):
        return _remedy_for_cut_marker(expected, files)
    if MARKER.fullmatch(piece):
        if piece in files.added_tokens:
            return (
                f'tokenizer.json lists {piece} under "added_tokens", but does not find it in a '
                'text: set its "normalized" to false, then convert again'
            )
        return f'list {piece} under "added_tokens" in tokenizer.json, then convert again'
    if piece.startswith("▁") and not expected.startswith("▁"):
        if files.settings.get("add_prefix_space") is False:
            return (
                "the GGUF puts a space in front of a text, though tokenizer_config.json says "
                '"add_prefix_space": false: make the normalizer of tokenizer.json and '
                "tokenizer.model agree with it, then convert again"
            )
        return (
            'the GGUF puts a space in front of a text: set "add_prefix_space": false in '
            "tokenizer_config.json, then convert again"
        )
    return "correct the tokenizer's files, then convert again"


def _remedy_for_bos(ours: Tokenization, theirs: Tokenization, files: TokenizerFiles) -> str:
    longer = max(ours.pieces, theirs.pieces, key=len)
    added = str(len(theirs.ids) > len(ours.ids)).lower()
    if str(files.settings.get("add_bos_token")).lower() == added:
        return (
            f'tokenizer_config.json says "add_bos_token": {added}, and the GGUF does not follow '
            f"it: see that the post_processor of tokenizer.json puts {longer[0]!r} in front in "
            "just that case, then convert again"
        )
    return (
        f'set "add_bos_token": {added} in tokenizer_config.json, as Hugging Face\'s tokenizer does '
        f"it with {longer[0]!r} in front (was the model trained that way?), then convert again"
    )


def _remedy_for_cut_marker(marker: str, files: TokenizerFiles) -> str:
    """The GGUF cuts what is one token in Hugging Face's tokenizer."""
    places = []
    if files.has_sentencepiece:
        places.append("a control or user-defined piece of tokenizer.model")
    if marker not in files.special_tokens:
        places.append("a special token in tokenizer_config.json")
    if not places:
        return (
            f"{marker} is a special token in tokenizer_config.json already: the converter passes "
            'it over; see that tokenizer.json lists it under "added_tokens" with the same id and '
            '"special": true, then convert again'
        )
    return f"make {marker} {' or '.join(places)}, then convert again"


def _excerpt(tokens: Tokenization, index: int) -> str:
    shown = list(zip(tokens.ids, tokens.pieces, strict=True))[index : index + CONTEXT_TOKENS]
    if not shown:
        return "(ends here)"
    more = " ..." if len(tokens.ids) > index + CONTEXT_TOKENS else ""
    return ", ".join(f"{number} {piece!r}" for number, piece in shown) + more


def _piece(vocabulary: Sequence[str], number: int) -> str:
    return vocabulary[number] if 0 <= number < len(vocabulary) else "?"


def _prompt_file_texts() -> Iterator[str]:
    """Every longer text in every prompt file, whatever its key."""
    for path in list_data_files("prompts").values():
        try:
            values = read_toml(path, error=PromptError)
        except PromptError:
            # Whoever uses the prompt is told; here it is only one text less.
            continue
        yield from _long_strings(values)


def _long_strings(value: object) -> Iterator[str]:
    if isinstance(value, str) and len(value) > 20:
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _long_strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _long_strings(item)
