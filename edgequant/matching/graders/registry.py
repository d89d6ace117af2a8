"""All graders by their names, and which of them read which kind of answer."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from edgequant.core.errors import DataFrameError
from edgequant.matching.graders.boxed import Boxed
from edgequant.matching.graders.grader import Grader
from edgequant.matching.graders.lenient import Lenient
from edgequant.matching.graders.letters import LenientLetter, Letter
from edgequant.matching.graders.math_verify import MathVerify, is_installed
from edgequant.matching.graders.qwen import Qwen

INTEGER = "integer"
CHOICE = "choice"


@functools.cache
def graders_for(answer_kind: str) -> Mapping[str, Grader]:
    """Name to grader for a kind of answer; the headline first, the lenient one second.

    ``math-verify`` is among them where its package is installed.

    Args:
        answer_kind: ``integer`` or ``choice``.

    Raises:
        DataFrameError: no grader reads that kind.
    """
    graders: dict[str, tuple[Grader, ...]] = {
        INTEGER: (Boxed(), Lenient(), Qwen(), *([MathVerify()] if is_installed() else [])),
        CHOICE: (Letter(), LenientLetter()),
    }
    if answer_kind not in graders:
        raise DataFrameError(f"answer_kind {answer_kind!r} is none of {', '.join(graders)}")
    return {grader.name: grader for grader in graders[answer_kind]}


def headline(answer_kind: str) -> Grader:
    """The grader of the main score."""
    return next(iter(graders_for(answer_kind).values()))


def lenient(answer_kind: str) -> Grader:
    """The grader that also reads answers that are not in the asked form."""
    return list(graders_for(answer_kind).values())[1]


@functools.cache
def by_role(answer_kind: str) -> Mapping[str, Grader]:
    """Role to grader: "exact" (the headline), "lenient", "qwen" and "math_verify".

    Letters have no rules of Qwen's or math-verify's: their own two stand for them, so that a mean
    over several kinds of questions is one over all of them. "math_verify" is missing where its
    package is.
    """
    known = graders_for(answer_kind)
    found = {"exact": headline(answer_kind), "lenient": lenient(answer_kind)}
    found["qwen"] = known.get(Qwen.name, found["lenient"])
    if is_installed():
        found["math_verify"] = known.get(MathVerify.name, found["exact"])
    return found
