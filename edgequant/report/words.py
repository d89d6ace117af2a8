"""What the results say, in plain sentences. Pure functions over the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgequant.answers.strategies.truncate import NAME as TRUNCATE
from edgequant.latency.pace import Pace
from edgequant.matching.match import ANY_PROMPT
from edgequant.report.style import SOURCE_LABELS, duration, tick_duration

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
"""A row of a table as plain values, see :func:`edgequant.core.tables.records`."""


def rounded_percent(share: float) -> str:
    """A share without digits behind the point."""
    return f"{share * 100:.0f} %"


def budget_words(strategy: str) -> str:
    """How a strategy keeps its budget: "hard" where it is only cut."""
    return "hard" if strategy == TRUNCATE else strategy


def describe_choice(row: Mapping[str, object]) -> str:
    """``prompt “cot”, budget of 64 tokens told to the model``."""
    budget = row["budget_tokens"]
    if budget is None:
        limit = "no limit"
    else:
        limit = f"{budget_words(str(row['strategy']))} budget of {budget} tokens"
    return f"prompt “{row['prompt']}”, {limit}"


def nothing_right(scores: pd.DataFrame, matched: pd.DataFrame) -> str | None:
    """What to say where no answer is right, whole or cut at any budget; None where one is.

    Args:
        scores: one row for each quantization, prompt, strategy and told budget: whole answers.
        matched: accuracy against seconds: the same answers at every budget.
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
        text += f". With fallbacks (the last number counts) {lenient} would be right"
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


def headline(best: Sequence[Row], matched: Sequence[Row], source: str) -> list[str]:
    """Which quantization to take within which time, one sentence for each that leads.

    A leader stays named for as long as no other one is better beyond chance: the lead of a few
    questions that changes with each time limit is no advice.

    Args:
        best: rows of the table of best choices.
        matched: rows of accuracy against seconds.
        source: latency source to speak about.
    """
    rows = sorted(
        (r for r in _of_source(best, source) if r["quantization"] is not None),
        key=lambda row: row["time_limit_seconds"],
    )
    if not rows:
        return ["Within the time limits asked for, nothing answers a question right."]
    of_source = _of_source(matched, source)
    sentences = []
    spans = list(_spans(rows))
    for leader, members in spans:
        limits = [row["time_limit_seconds"] for row in members]
        first = best_choice(of_source, leader, limits[0]) or members[0]
        last = best_choice(of_source, leader, limits[-1]) or members[-1]
        opening = f"Within {tick_duration(limits[0])}, take {leader}"
        if len(spans) == 1 and len(limits) > 1:
            opening = f"Take {leader} whatever the time: no other is better beyond chance. "
            opening += f"Within {tick_duration(limits[0])}"
        sentence = f"{opening}: {rounded_percent(first['accuracy'])} right"
        sentence += f" ({describe_choice(first)})"
        if last["accuracy"] > first["accuracy"]:
            sentence += (
                f", rising to {rounded_percent(last['accuracy'])} within "
                f"{tick_duration(limits[-1])} ({describe_choice(last)})"
            )
        elif len(limits) > 1:
            sentence += f", up to {tick_duration(limits[-1])}"
        sentences.append(sentence + ".")
    return sentences


def _of_source(rows: Sequence[Row], source: str) -> list[Row]:
    return [row for row in rows if row["latency_source"] == source]


def _spans(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The fewest runs of time limits so that in each one quantization is never worse than chance.

    Of several such quantizations the one that is the best most often.
    """
    members: list[Row] = []
    able: set[str] = set()
    for row in rows:
        equal = {row["quantization"], *(row["not_distinguishable_from"] or "").split("; ")} - {""}
        if members and not able & equal:
            yield _leader(members, able), members
            members, able = [], set()
        able = able & equal if members else equal
        members.append(row)
    yield _leader(members, able), members


def _leader(members: Sequence[Row], able: set[str]) -> str:
    names = [str(row["quantization"]) for row in members]
    return max(sorted(able), key=lambda name: (names.count(name), -_first(names, name)))


def _first(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)


def best_choice(matched: Sequence[Row], quantization: str, limit_seconds: float) -> Row | None:
    """The most accurate row of a quantization within a time, of equal ones the quickest."""
    within = (
        row
        for row in matched
        if row["quantization"] == quantization
        and row["seconds"] <= limit_seconds
        and row["accuracy"] > 0
    )
    return min(within, key=lambda row: (-row["accuracy"], row["seconds"]), default=None)


def describe_crossovers(
    crossovers: Sequence[Row], source: str, matched: Sequence[Row] | None = None
) -> list[str]:
    """The changes of lead over all prompts and budgets that are beyond chance.

    Each pair has one sentence for its last change, which holds from there on, and one for those
    before, if there are any.

    Args:
        crossovers: rows of the table of crossovers.
        source: latency source to speak about.
        matched: rows of accuracy against seconds; with them, the choice behind an early lead
            is named.
    """
    rows = [row for row in _confident(crossovers, source) if row["prompt"] == ANY_PROMPT]
    of_source = None if matched is None else _of_source(matched, source)
    return [_pair_words(pair, of_source) for pair in _pairs(rows)]


def describe_prompt_crossovers(
    crossovers: Sequence[Row], source: str, pair: tuple[str, str]
) -> list[str]:
    """Each prompt alone, its answers cut at the budget: where two quantizations change the lead.

    Args:
        crossovers: rows of the table of crossovers.
        source: latency source to speak about.
        pair: the two quantizations.
    """
    rows = [
        row
        for row in _confident(crossovers, source)
        if row["prompt"] != ANY_PROMPT
        and row["strategy"] == TRUNCATE
        and {row["first_quantization"], row["second_quantization"]} <= set(pair)
    ]
    return [
        f"With “{members[0]['prompt']}” alone, answers cut at the budget: {_pair_words(members)}"
        for members in _pairs(rows)
    ]


def _confident(crossovers: Sequence[Row], source: str) -> list[Row]:
    return [row for row in _of_source(crossovers, source) if row["confident"]]


def _pairs(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of each prompt and pair, by time; pairs in the order of their last change."""
    groups: dict[tuple[str, frozenset[str]], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["seconds"]):
        pair = frozenset((row["first_quantization"], row["second_quantization"]))
        groups.setdefault((row["prompt"], pair), []).append(row)
    return sorted(groups.values(), key=lambda members: float(members[-1]["seconds"]))


def _pair_words(pair: Sequence[Row], matched: Sequence[Row] | None = None) -> str:
    *earlier, last = pair
    winner, loser = last["second_quantization"], last["first_quantization"]
    time = f"{duration(last['seconds'])} (95 % interval: {interval_words(last)})"
    if not earlier:
        return f"{loser} is ahead of {winner} until {time}, {winner} from there on."
    changes = " and ".join(_change_words(row, matched) for row in earlier)
    return (
        f"From {time} on, {winner} stays ahead of {loser}. "
        f"Before that {pair[0]['first_quantization']} starts ahead, and the lead goes {changes}."
    )


def _change_words(row: Row, matched: Sequence[Row] | None) -> str:
    winner = row["second_quantization"]
    words = f"to {winner} at {duration(row['seconds'])}"
    choice = None
    if matched is not None:
        choice = best_choice(matched, winner, row["seconds"] * (1 + 1e-9))
    return words if choice is None else f"{words} ({describe_choice(choice)})"


def interval_words(row: Row) -> str:
    """A crossover's interval; where its ends agree, every resample put it at the same step."""
    low, high = duration(row["seconds_low"]), duration(row["seconds_high"])
    return "the same in all resamples" if low == high else f"{low} to {high}"


def crossovers_at_the_top(crossovers: Sequence[Row], matched: Sequence[Row]) -> list[Row]:
    """The crossovers after which the new leader is the best of all quantizations.

    Args:
        crossovers: of one source and prompt (or of all prompts).
        matched: rows of the same source and prompt.
    """

    def leads(crossover: Row) -> bool:
        limit = crossover["seconds"] * (1 + 1e-9)
        within = [row for row in matched if row["seconds"] <= limit]
        best = max((row["accuracy"] for row in within), default=None)
        winner = crossover["second_quantization"]
        return any(row["quantization"] == winner and row["accuracy"] == best for row in within)

    return [crossover for crossover in crossovers if leads(crossover)]


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


def label(source: str) -> str:
    """The label that a source's figures carry everywhere."""
    return SOURCE_LABELS.get(source, source.upper())
