"""What the results say, in plain sentences. Pure functions over the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import polars as pl

from edgequant.evaluation.matching import ANY_PROMPT
from edgequant.latency.model import LatencyModel
from edgequant.report.style import SOURCE_LABELS, duration, tick_duration


def rounded_percent(share: float) -> str:
    """A share without digits behind the point."""
    return f"{share * 100:.0f} %"


def describe_choice(row: dict[str, object]) -> str:
    """``prompt “cot”, budget of 64 tokens told to the model``."""
    budget = row["budget_tokens"]
    if budget is None:
        limit = "no limit"
    else:
        limit = f"{'stated' if row['stated'] else 'hard'} budget of {budget} tokens"
    return f"prompt “{row['prompt']}”, {limit}"


def headline(best: pl.DataFrame, source: str) -> list[str]:
    """Which quantization to take within which time, one sentence for each that leads.

    Args:
        best: the table of best choices.
        source: latency source to speak about.
    """
    rows = [
        row
        for row in best.filter(pl.col("latency_source") == source)
        .sort("time_limit_seconds")
        .iter_rows(named=True)
        if row["quantization"] is not None
    ]
    if not rows:
        return ["Within the time limits asked for, nothing answers a question right."]
    sentences = []
    for quantization, group in groupby(rows, key=lambda row: str(row["quantization"])):
        members = list(group)
        first, last = members[0], members[-1]
        span = f"Within {tick_duration(first['time_limit_seconds'])}"
        reach = f"{rounded_percent(first['accuracy'])} right ({describe_choice(first)})"
        sentence = f"{span}, take {quantization}: {reach}"
        if len(members) > 1:
            sentence += (
                f", rising to {rounded_percent(last['accuracy'])} within "
                f"{tick_duration(last['time_limit_seconds'])} ({describe_choice(last)})"
                if last["accuracy"] > first["accuracy"]
                else f", up to {tick_duration(last['time_limit_seconds'])}"
            )
        sentences.append(sentence + ".")
    return sentences


def describe_crossovers(crossovers: pl.DataFrame, source: str) -> list[str]:
    """The changes of lead over all prompts and budgets that are beyond chance.

    Args:
        crossovers: the table of crossovers, or some of its rows.
        source: latency source to speak about.
    """
    rows = crossovers.filter(
        (pl.col("latency_source") == source)
        & pl.col("confident")
        & (pl.col("prompt") == ANY_PROMPT)
    ).sort("seconds")
    return [
        f"{row['first_quantization']} is ahead of {row['second_quantization']} until "
        f"{duration(row['seconds'])} (95 % interval: {interval_words(row)}), "
        f"{row['second_quantization']} from there on."
        for row in rows.iter_rows(named=True)
    ]


def interval_words(row: Mapping[str, Any]) -> str:
    """A crossover's interval; where its ends agree, every resample put it at the same step."""
    low, high = duration(row["seconds_low"]), duration(row["seconds_high"])
    return "the same in all resamples" if low == high else f"{low} to {high}"


def crossovers_at_the_top(crossovers: pl.DataFrame, matched: pl.DataFrame) -> pl.DataFrame:
    """The crossovers after which the new leader is the best of all quantizations.

    Args:
        crossovers: of one source and prompt (or of all prompts).
        matched: rows of the same source and prompt.
    """

    def leads(row: Mapping[str, Any]) -> bool:
        within = matched.filter(pl.col("seconds") <= row["seconds"] * (1 + 1e-9))
        best = within.group_by("quantization").agg(pl.col("accuracy").max())
        own = best.filter(pl.col("quantization") == row["second_quantization"])["accuracy"]
        highest = best["accuracy"].max()
        return len(own) > 0 and own[0] == highest

    kept = [leads(row) for row in crossovers.iter_rows(named=True)]
    return crossovers.filter(pl.Series(kept, dtype=pl.Boolean))


def explain_speed(
    latency_models: Sequence[LatencyModel], source: str, order: Sequence[str]
) -> str | None:
    """Why more bits can be quicker, where they are; None where fewer bits are quicker.

    Args:
        latency_models: of every source.
        source: the source to speak about.
        order: quantizations from few bits to many.
    """
    seconds = {m.quantization: m.decode_seconds for m in latency_models if m.source == source}
    present = [q for q in order if q in seconds]
    if len(present) < 2:
        return None
    few, many = present[0], present[-1]
    if seconds[many] >= seconds[few]:
        return None
    where = (
        "The emulated clock counts instructions and knows no memory bandwidth. "
        if source == "emulated"
        else ""
    )
    return (
        f"Here {many} is also the faster one: {duration(seconds[many])} for a token against "
        f"{duration(seconds[few])} with {few}. {where}Unpacking {few}'s weights takes more "
        f"instructions for each token than {many}'s nearly plain bytes do. So where the model fits "
        "in RAM and arithmetic is the limit, fewer bits are slower as well as less accurate, and "
        "no time limit favours them; fewer bits win where bytes are the limit: a model larger than "
        "RAM is read from storage again for every token, as on the study's board."
    )


def label(source: str) -> str:
    """The label that a source's figures carry everywhere."""
    return SOURCE_LABELS.get(source, source.upper())
