"""What the results say, in plain sentences: choices, failures, speeds. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from edgequant.answers.strategies.registry import base_name
from edgequant.latency.pace import Pace
from edgequant.report.style import duration

if TYPE_CHECKING:
    import pandas as pd

_WAYS = {
    "truncate": "no budget",
    "stated": "budget of {budget} tokens stated",
    "early_stop": "stopped after {budget} tokens",
    "loop_stop": "loops stopped",
}
_FAMILIES = {
    "truncate": "no budget",
    "stated": "budget stated",
    "early_stop": "stopped early",
    "loop_stop": "loops stopped",
}
_EXPLAINED = {
    "truncate": "the model answers as it likes; what stands there when the time is up counts",
    "stated": "the prompt names a part of that budget, half of it where nothing else is said, and "
    "the model answers more briefly",
    "early_stop": "the answer is cropped there, and the model is asked for its result at once",
    "loop_stop": "an answer that begins to repeat itself is cropped there, and the model is asked "
    "for its result at once",
}


def explain_way(strategy: str) -> str | None:
    """What a strategy does, where its words first stand; None: it is not one of ours."""
    return _EXPLAINED.get(base_name(strategy))


def way_words(strategy: str, budget_tokens: object) -> str:
    """How an answer was asked for: ``budget of 64 tokens stated``.

    Args:
        strategy: label of the strategy.
        budget_tokens: the budget it was given, if any.
    """
    name, _, rest = strategy.partition(":")
    known = _WAYS.get(name)
    if known is None or ("{budget}" in known and budget_tokens is None):
        told = "" if budget_tokens is None else f" at {budget_tokens} tokens"
        return f"{strategy}{told}"
    words = known.format(budget=budget_tokens)
    return f"{words} ({name} {rest})" if rest else words


def family_words(strategy: str) -> str:
    """The same for all budgets of a strategy: ``budget stated``."""
    words = _FAMILIES.get(base_name(strategy), strategy)
    rest = strategy.partition(":")[2]
    return f"{words} ({strategy})" if rest and words != strategy else words


def choice_words(row: Mapping[str, object]) -> str:
    """``prompt “cot”, budget of 64 tokens stated``."""
    return f"prompt “{row['prompt']}”, {way_words(str(row['strategy']), row['budget_tokens'])}"


def nothing_right(scores: pd.DataFrame, matched: pd.DataFrame) -> str | None:
    """What to say where no answer is right, whole or cut at any budget; None where one is.

    Args:
        scores: one row for each quantization, prompt, strategy and told budget: whole answers.
        matched: accuracy against seconds: the same answers at every token.
    """
    # A box that is right may be overwritten later: cut before that, the answer is right.
    if scores.empty or scores["accuracy"].max() != 0 or (matched["accuracy"] > 0).any():
        return None
    answers = int(scores["n"].sum())
    text = f"None of the {answers} answers is right"
    # Runs of before this was counted do not know.
    if scores["boxed"].notna().all():
        text += _boxes_words(answers, _answers(scores, "boxed"), _answers(scores, "cut_off"))
    if lenient := _answers(scores, "lenient_accuracy"):
        text += f". Read leniently (without a box the last number counts) {lenient} would be right"
    return text + "."


def _answers(scores: pd.DataFrame, share: str) -> int:
    """A column's share of all answers, as a number of them."""
    return round(float((scores["n"] * scores[share]).sum()))


def _boxes_words(answers: int, boxed: int, cut_off: int) -> str:
    if boxed:
        return f"; {boxed} of them hold a \\boxed{{}}, with something else in it"
    text = ", and none of them holds a \\boxed{}"
    if cut_off == answers:
        return f"{text}: all were cut off by the limit of their tokens, before they came to one"
    text += (
        ": the model does not give its answer in the form that is graded, which is a failure of "
        "format and says nothing of its arithmetic"
    )
    return f"{text} ({cut_off} were cut off by the limit of their tokens)" if cut_off else text


def explain_speed(
    paces: Sequence[Pace],
    source: str,
    order: Sequence[str],
    misnamed: Collection[str] = (),
) -> str | None:
    """Why the quicker quantization is the quicker one; None where there is nothing to explain.

    Args:
        paces: of every source.
        source: the source to speak about.
        order: quantizations from few bits to many.
        misnamed: those that hold no tensor of the type they are called after: what is said of
            that type is not true of them.
    """
    own = {p.quantization: p for p in paces if p.source == source}
    present = [q for q in order if q in own]
    if len(present) < 2:
        return None
    few, many = own[present[0]], own[present[-1]]
    if many.decode_seconds < few.decode_seconds:
        return _more_bits_are_faster(few, many, source, misnamed)
    if source == "study":
        return (
            f"Here bytes are the limit: the study's model does not fit in RAM and is read from "
            f"storage again for every token, so a token takes {duration(few.decode_seconds)} with "
            f"{few.quantization} and {duration(many.decode_seconds)} with {many.quantization}."
        )
    if few.prefill_seconds_per_token > many.prefill_seconds_per_token:
        return (
            f"{few.quantization} decodes faster ({duration(few.decode_seconds)} for a token "
            f"against {duration(many.decode_seconds)} with {many.quantization}) but reads the "
            f"question more slowly ({duration(few.prefill_seconds_per_token)} for a prompt token "
            f"against {duration(many.prefill_seconds_per_token)}): decoding waits for bytes, "
            f"prompts are batches that wait for arithmetic. So short answers favour "
            f"{many.quantization}."
        )
    return None


def _more_bits_are_faster(few: Pace, many: Pace, source: str, misnamed: Collection[str]) -> str:
    if {few.quantization, many.quantization} & set(misnamed):
        return (
            f"Here {many.quantization} is also the faster one: {duration(many.decode_seconds)} "
            f"for a token against {duration(few.decode_seconds)} with {few.quantization}. Their "
            "names do not say why: see below, under Models, what they really hold."
        )
    where = (
        "The emulated clock counts instructions and knows no memory bandwidth. "
        if source == "emulated"
        else ""
    )
    return (
        f"Here {many.quantization} is also the faster one: {duration(many.decode_seconds)} for a "
        f"token against {duration(few.decode_seconds)} with {few.quantization}. {where}Unpacking "
        f"{few.quantization}'s weights takes more instructions for each token than "
        f"{many.quantization}'s nearly plain bytes do. So where the model fits in RAM and "
        "arithmetic is the limit, fewer bits cost time instead of saving it. They save time where "
        "bytes are the limit: a model larger than RAM is read from storage again for every token, "
        "as on the study's board."
    )
