"""What Hugging Face's tokenizer makes of some texts; run as a program of its own.

    python -m edgequant.models.hf_tokenizer FOLDER < texts.json > answer.json

A process of its own, because transformers is slow to import, prints what it likes and keeps
hundreds of megabytes. Standard input is a JSON object ``{"texts": [...]}``, and so is the
answer: for each text the ids without and with special tokens, and the pieces of both.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

MARKER = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>|\[/?INST\]")

EXAMPLE_MESSAGES = (
    [
        {"role": "system", "content": "Conclude with your final answer within \\boxed{}."},
        {"role": "user", "content": "Ann has 12 eggs and eats 3. How many are left?"},
    ],
    [{"role": "user", "content": "Ann has 12 eggs and eats 3. How many are left?"}],
)


def answer(folder: str, texts: list[str]) -> dict[str, Any]:
    """Load the folder's tokenizer and apply it.

    Returns:
        ``rendered``: how many of ``results``, the last ones, are the chat template rendered on
        example messages; ``results``: for each of ``texts``, and then for each rendered
        template, ``text``, ``plain`` (ids), ``special`` (ids with the tokens that are put
        around every text) and the pieces of both; ``markers``: everything in the texts that
        looks like a chat marker, with its id, or None where the vocabulary lacks it.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    rendered = []
    if getattr(tokenizer, "chat_template", None):
        for messages in EXAMPLE_MESSAGES:
            try:
                text = tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=True
                )
            except Exception as error:
                # Templates raise what they like; many refuse a system message.
                print(f"chat template: {error}", file=sys.stderr)
                continue
            rendered.append(str(text))
    results = []
    for text in [*texts, *rendered]:
        plain = tokenizer.encode(text, add_special_tokens=False)
        special = tokenizer.encode(text, add_special_tokens=True)
        results.append(
            {
                "text": text,
                "plain": plain,
                "special": special,
                "plain_pieces": tokenizer.convert_ids_to_tokens(plain),
                "special_pieces": tokenizer.convert_ids_to_tokens(special),
            }
        )
    vocabulary = tokenizer.get_vocab()
    markers = {
        marker: vocabulary.get(marker)
        for result in results
        for marker in MARKER.findall(result["text"])
    }
    return {"rendered": len(rendered), "results": results, "markers": markers}


def main() -> None:
    """Read texts from standard input and print the answer."""
    request = json.load(sys.stdin)
    # Whatever else is printed must not get between the lines of the answer.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    json.dump(answer(sys.argv[1], request["texts"]), out)
    out.close()


if __name__ == "__main__":
    main()
