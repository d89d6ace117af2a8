"""Generator of grade-school word problems with worked solutions.

Everything here is pure and seeded: the same seed gives the same problem on every machine.
A problem is a question, the arithmetic steps that solve it, and an integer answer.  The
solution is written at one of five lengths (``LENGTHS``), from a bare ``\\boxed{N}`` to whole
sentences.

Training and test questions are kept apart *by construction*: a stable hash of the normalised
question picks one of ``BUCKETS`` buckets, and bucket ``HELD_OUT_BUCKET`` is only ever given to
the test side.  Normalising drops case, punctuation, and which names were used, so a test question
is not even a training question with other people in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

BUCKETS = 32
HELD_OUT_BUCKET = 7
LEVELS = (1, 2, 3, 4, 5)
"""Difficulty levels, easiest first: more steps, larger numbers, more distractors."""

LENGTHS = ("bare", "totals", "terse", "short", "full")
"""Ways to write a solution, shortest first."""

GIRLS = (
    "Mia", "Anna", "Lily", "Emma", "Nina", "Rosa", "Sara", "Ella",
    "Zoe", "Ruth", "Kate", "Jane",
)  # fmt: skip
BOYS = (
    "Tom", "Ben", "Sam", "Leo", "Max", "Paul", "Omar", "Jack",
    "Finn", "Noah", "Luke", "Adam",
)  # fmt: skip
NAMES = GIRLS + BOYS
_NAME_SET = frozenset(name.lower() for name in NAMES)

ITEMS = (
    "apples", "marbles", "stickers", "cards", "books", "pencils", "stamps", "shells",
    "coins", "beads", "cookies", "eggs", "stones", "balls", "seeds", "plums",
)  # fmt: skip
GOODS = ("pens", "shirts", "cakes", "lamps", "hats", "toys", "cups", "bags", "mugs", "chairs")
BOXES = ("boxes", "bags", "packs", "baskets")

_WORD = re.compile(r"[a-z]+|[0-9]+")


@dataclass(frozen=True, slots=True)
class Step:
    """One arithmetic operation of a solution: ``left op right = result``, all integers."""

    left: int
    op: str
    right: int
    result: int
    sentence: str
    """What happens, as the start of a sentence (``"Mia buys 12 more"``)."""
    label: str
    """The same in one or two words (``"buys"``)."""
    person: int = 0
    """Whose count the step changes, where a question follows several people."""

    @property
    def equation(self) -> str:
        """The step as ``left op right = result`` without spaces."""
        return f"{self.left}{self.op}{self.right}={self.result}"

    @property
    def long_equation(self) -> str:
        """Like ``equation``; a product of two large factors is worked out by parts."""
        if self.op != "*" or min(self.left, self.right) < 11:
            return self.equation
        big, small = max(self.left, self.right), min(self.left, self.right)
        tens, units = small // 10 * 10, small % 10
        if not units:
            return self.equation
        return (
            f"{self.left}*{self.right}={big}*{tens}+{big}*{units}"
            f"={big * tens}+{big * units}={self.result}"
        )


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its worked solution; ``answer`` is the last step's result."""

    question: str
    steps: tuple[Step, ...]
    answer: int
    family: str
    level: int

    def solution(self, length: str) -> str:
        """Return the solution written at one of ``LENGTHS``, ending in the boxed answer."""
        steps = self.steps
        if length == "bare":
            return f"\\boxed{{{self.answer}}}"
        if length == "totals":
            results = ",".join(str(step.result) for step in steps[:-1])
            return f"{results}\n\\boxed{{{self.answer}}}"
        if length == "terse":
            parts: list[str] = []
            previous: int | None = None
            for step in steps:
                if previous is not None and step.left == previous:
                    parts.append(f"{step.op}{step.right}={step.result}")
                else:
                    parts.append(f"{';' if parts else ''}{step.equation}")
                previous = step.result
            return f"{''.join(parts)}\n\\boxed{{{self.answer}}}"
        if length == "short":
            body = "\n".join(f"{step.label}: {step.equation}" for step in steps)
            return f"{body}\n\\boxed{{{self.answer}}}"
        if length == "full":
            body = "\n".join(f"{step.sentence}: {step.long_equation}." for step in steps)
            return f"{body}\nThe answer is \\boxed{{{self.answer}}}."
        raise ValueError(f"unknown solution length {length!r}; choose one of {LENGTHS}")

    def gsm8k_answer(self) -> str:
        """The full solution in GSM8K's form: sentences, then ``#### N``."""
        body = "\n".join(f"{step.sentence}: {step.long_equation}." for step in self.steps)
        return f"{body}\n#### {self.answer}"


def normalise(question: str) -> str:
    """Return the question without case, punctuation, spacing and the choice of names.

    Names become ``n0``, ``n1``, … in the order in which they first appear.
    """
    seen: dict[str, str] = {}
    words: list[str] = []
    for word in _WORD.findall(question.lower()):
        if word in _NAME_SET:
            word = seen.setdefault(word, f"n{len(seen)}")
        words.append(word)
    # "he" and "she" follow from the names, so they must not tell two questions apart either.
    return " ".join("they" if word in ("he", "she") else word for word in words)


def bucket(question: str) -> int:
    """Return the stable bucket, 0 to ``BUCKETS - 1``, that a question belongs to."""
    digest = hashlib.blake2b(normalise(question).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def is_held_out(question: str) -> bool:
    """Whether a question belongs to the test side."""
    return bucket(question) == HELD_OUT_BUCKET


# Largest starting number, largest change, largest factor, cap on any value, events, distractors.
@dataclass(frozen=True, slots=True)
class _Size:
    start: int
    change: int
    factor: int
    group: int
    cap: int
    events: tuple[int, int]
    distractors: tuple[int, int]


_SIZES = {
    1: _Size(40, 20, 3, 9, 200, (1, 2), (0, 0)),
    2: _Size(90, 60, 4, 12, 600, (2, 3), (0, 1)),
    3: _Size(300, 150, 5, 20, 2000, (3, 4), (0, 1)),
    4: _Size(900, 500, 7, 40, 9000, (3, 5), (1, 2)),
    5: _Size(4000, 2000, 9, 80, 60000, (4, 6), (1, 3)),
}


class _Cast:
    """Draws names, things and numbers for one problem."""

    def __init__(self, rng: Random, level: int) -> None:
        self.rng = rng
        self.size = _SIZES[level]
        self.level = level
        self.names = rng.sample(NAMES, 6)
        self.items = rng.sample(ITEMS, 2)

    def upto(self, low: int, high: int) -> int:
        """A number in ``low..high``; half of the draws favour the smaller magnitudes."""
        random = self.rng.random
        if high <= low:
            return low
        span = high - low + 1
        if random() < 0.3:
            return low + int(random() * random() * span)
        return low + int(random() * span)

    def pick(self, options: tuple[str, ...]) -> str:
        return options[int(self.rng.random() * len(options))]

    def pronoun(self, name: str) -> str:
        return "She" if name in GIRLS else "He"


_OPENERS = ("", "", "", "Then ", "Later, ", "After that, ", "On Monday, ", "The next day, ")


def _opened(cast: _Cast, sentence: str) -> str:
    """Put an opener such as ``Then`` before a sentence that starts with He, She or a name."""
    opener = cast.pick(_OPENERS)
    if not opener:
        return sentence
    if sentence.startswith(("He ", "She ", "For ")):
        sentence = sentence[0].lower() + sentence[1:]
    return opener + sentence


def _calc(left: int, op: str, right: int, sentence: str, label: str, person: int = 0) -> Step:
    result = {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "/": left // right if right else 0,
    }[op]
    return Step(left, op, right, result, sentence, label, person)


def _event(
    cast: _Cast, who: str, subject: str, item: str, value: int, person: int = 0
) -> tuple[str, list[Step]]:
    """Draw one thing that happens to ``value`` items: its sentence and its steps."""
    size, rng = cast.size, cast.rng
    friend = cast.names[5]
    while True:
        kind = int(rng.random() * 10)
        if kind <= 1:
            x = cast.upto(2, size.change)
            if value + x > size.cap:
                continue
            verb = cast.pick(("buys", "finds", "wins", "gets"))
            return f"{subject} {verb} {x} more {item}.", [
                _calc(value, "+", x, f"{who} {verb} {x} more", verb, person)
            ]
        if kind <= 3:
            if value < 8:
                continue
            x = cast.upto(2, min(size.change, value - 2))
            verb = cast.pick(("loses", "sells", "gives away", "breaks"))
            if verb == "gives away":
                text = f"{subject} gives {x} {item} to {friend}."
            else:
                text = f"{subject} {verb} {x} {item}."
            return text, [_calc(value, "-", x, f"{who} {verb} {x}", verb, person)]
        if kind <= 5:
            boxes = cast.upto(2, max(9, size.group // 2))
            each = cast.upto(3, size.group)
            if value + boxes * each > size.cap:
                continue
            box = cast.pick(BOXES)
            first = _calc(boxes, "*", each, f"{boxes} {box} of {each}", box, person)
            return f"{subject} buys {boxes} {box} with {each} {item} in each.", [
                first,
                _calc(value, "+", first.result, f"{who} then has", "has", person),
            ]
        if kind == 6:
            days = cast.upto(2, 9)
            each = cast.upto(2, size.group)
            if days * each > value - 1:
                continue
            verb = cast.pick(("uses", "sells", "gives away"))
            first = _calc(days, "*", each, f"{days} days with {each} a day", "days", person)
            return f"For {days} days, {who} {verb} {each} {item} a day.", [
                first,
                _calc(value, "-", first.result, f"{who} then has", "left", person),
            ]
        if kind == 7:
            factor = cast.upto(2, size.factor)
            if value * factor > size.cap:
                continue
            times = {2: "twice", 3: "three times"}.get(factor, f"{factor} times")
            return f"{subject} keeps collecting until there are {times} as many {item}.", [
                _calc(value, "*", factor, f"{times} as many", "times", person)
            ]
        if kind == 8:
            if value % 2 or value < 4:
                continue
            return f"{subject} gives half of the {item} to {friend}.", [
                _calc(value, "/", 2, f"{who} keeps half", "half", person)
            ]
        divisors = [k for k in range(3, 10) if value % k == 0 and value >= 2 * k]
        if not divisors:
            continue
        parts = divisors[int(rng.random() * len(divisors))]
        return f"{subject} shares the {item} equally among {parts} bags and keeps one bag.", [
            _calc(value, "/", parts, f"One of {parts} bags", "share", person)
        ]


def _running(cast: _Cast) -> tuple[list[str], str, list[Step]]:
    """One person, one kind of thing, one running count."""
    name, item = cast.names[0], cast.items[0]
    subject = cast.pronoun(name)
    value = cast.upto(5, cast.size.start)
    opening = cast.pick(("has", "starts with", "owns", "collected"))
    sentences = [f"{name} {opening} {value} {item}."]
    steps: list[Step] = []
    for _ in range(cast.rng.randint(*cast.size.events)):
        text, more = _event(cast, name, subject, item, value)
        sentences.append(_opened(cast, text))
        steps += more
        value = steps[-1].result
    price = cast.upto(2, max(9, cast.size.group // 2))
    if cast.rng.random() < 0.35 and value * price <= cast.size.cap * 2:
        steps.append(_calc(value, "*", price, f"Each sells for ${price}", "money"))
        sentences.append(f"{subject} sells all the {item} for ${price} each.")
        return sentences, f"How many dollars does {name} get?", steps
    return sentences, f"How many {item} does {name} have now?", steps


def _two_people(cast: _Cast) -> tuple[list[str], str, list[Step]]:
    """Two people with counts of their own; the question joins or picks them."""
    names, item, size = cast.names[:2], cast.items[0], cast.size
    values = [cast.upto(5, size.start), cast.upto(5, size.start)]
    sentences = [f"{names[0]} has {values[0]} {item} and {names[1]} has {values[1]}."]
    steps: list[Step] = []
    events = max(1, cast.rng.randint(*size.events) - 1)
    for _ in range(events):
        who = int(cast.rng.random() * 2)
        other = 1 - who
        if cast.rng.random() < 0.3 and values[who] > 8:
            x = cast.upto(2, min(size.change, values[who] - 2))
            if values[other] + x > size.cap:
                continue
            sentences.append(_opened(cast, f"{names[who]} gives {names[other]} {x} {item}."))
            more = [
                _calc(values[who], "-", x, f"{names[who]} gives {x}", "gives", who),
                _calc(values[other], "+", x, f"{names[other]} gets {x}", "gets", other),
            ]
        else:
            text, more = _event(cast, names[who], names[who], item, values[who], who)
            sentences.append(_opened(cast, text))
        steps += more
        for step in more:
            values[step.person] = step.result
    ask = cast.rng.random()
    if ask < 0.4:
        steps.append(_calc(values[0], "+", values[1], "Together they have", "together"))
        return sentences, f"How many {item} do they have together now?", steps
    if ask < 0.7 and values[0] != values[1]:
        high = 0 if values[0] > values[1] else 1
        steps.append(_calc(values[high], "-", values[1 - high], "The difference is", "difference"))
        question = f"How many more {item} does {names[high]} have than {names[1 - high]} now?"
        return sentences, question, steps
    who = int(cast.rng.random() * 2)
    own = [step for step in steps if step.person == who]
    if not own:
        who = 1 - who
        own = steps
    return sentences, f"How many {item} does {names[who]} have now?", own


def _shopping(cast: _Cast) -> tuple[list[str], str, list[Step]]:
    """A bill of several goods, perhaps a discount, perhaps change."""
    name, size = cast.names[0], cast.size
    subject = cast.pronoun(name)
    goods = cast.rng.sample(GOODS, 4)
    lines = min(4, max(2, cast.rng.randint(*size.events) - 1))
    sentences: list[str] = []
    steps: list[Step] = []
    total = 0
    for index in range(lines):
        thing = goods[index]
        count, price = cast.upto(2, max(9, size.group // 2)), cast.upto(2, size.group)
        form = cast.pick(
            (
                f"{name} buys {count} {thing} at ${price} each.",
                f"{subject} pays ${price} each for {count} {thing}.",
                f"{count} {thing} cost {name} ${price} each.",
            )
        )
        sentences.append(form if index == 0 else _opened(cast, form))
        cost = _calc(count, "*", price, f"{count} {thing} at ${price}", thing)
        steps.append(cost)
        if index:
            steps.append(_calc(total, "+", cost.result, "The bill is now", "bill"))
        total = steps[-1].result
    if cast.rng.random() < 0.5 and total > 12:
        off = cast.upto(2, min(size.change, total // 2))
        sentences.append(f"A coupon takes ${off} off the bill.")
        steps.append(_calc(total, "-", off, f"The coupon takes off ${off}", "coupon"))
        total = steps[-1].result
    if cast.rng.random() < 0.6:
        purse = total + cast.upto(1, size.change)
        sentences.insert(0, f"{name} takes ${purse} to the shop.")
        steps.append(_calc(purse, "-", total, f"{name} had ${purse}", "left"))
        return sentences, f"How many dollars does {name} have left?", steps
    return sentences, f"How many dollars does {name} pay?", steps


def _work(cast: _Cast) -> tuple[list[str], str, list[Step]]:
    """Wages by the hour, then spending, saving and sharing of the money."""
    name, size = cast.names[0], cast.size
    subject = cast.pronoun(name)
    rate, hours, days = cast.upto(3, size.group), cast.upto(2, 9), cast.upto(2, 9)
    sentences = [f"{name} works {hours} hours a day for {days} days and earns ${rate} an hour."]
    steps = [_calc(hours, "*", days, f"{name} works {hours} hours for {days} days", "hours")]
    steps.append(_calc(steps[0].result, "*", rate, f"Each hour pays ${rate}", "pay"))
    value = steps[-1].result
    for _ in range(max(1, cast.rng.randint(*size.events) - 2)):
        kind = cast.rng.random()
        if kind < 0.4 and value > 12:
            x = cast.upto(2, min(size.change, value - 3))
            what = cast.pick(("food", "rent", "a coat", "a bike"))
            sentences.append(_opened(cast, f"{subject} spends ${x} on {what}."))
            steps.append(_calc(value, "-", x, f"{name} spends ${x}", "spends"))
        elif kind < 0.7 or value % 2:
            x = cast.upto(2, size.change)
            sentences.append(_opened(cast, f"{subject} gets a bonus of ${x}."))
            steps.append(_calc(value, "+", x, f"The bonus is ${x}", "bonus"))
        else:
            sentences.append(_opened(cast, f"{subject} saves half of the money for a trip."))
            steps.append(_calc(value, "/", 2, "Half is left", "half"))
        value = steps[-1].result
    divisors = [k for k in range(3, 10) if value % k == 0 and value >= 2 * k]
    if divisors and cast.rng.random() < 0.5:
        parts = divisors[int(cast.rng.random() * len(divisors))]
        sentences.append(f"{subject} shares what is left equally among {parts} children.")
        steps.append(_calc(value, "/", parts, f"{parts} children share it", "share"))
        return sentences, "How many dollars does each child get?", steps
    return sentences, f"How many dollars does {name} have left?", steps


def _comparison(cast: _Cast) -> tuple[list[str], str, list[Step]]:
    """A chain of comparisons, in any order from level 3 on; the question joins or picks."""
    size, item = cast.size, cast.items[0]
    count = min(5, max(2, cast.rng.randint(*size.events)))
    names = cast.names[:count]
    values = [cast.upto(6, size.start)]
    sentences = [f"{names[0]} has {values[0]} {item}."]
    steps: list[Step] = []
    for index in range(1, count):
        name, base, value = names[index], names[index - 1], values[-1]
        kind = cast.rng.random()
        if kind < 0.3 and value * 2 <= size.cap // 3:
            factor = cast.upto(2, min(size.factor, size.cap // (3 * value)))
            times = {2: "twice", 3: "three times"}.get(factor, f"{factor} times")
            text = f"{name} has {times} as many {item} as {base}."
            step = _calc(value, "*", factor, f"{name} has {times} as many", name)
        elif kind < 0.45 and value % 2 == 0 and value > 6:
            text = f"{name} has half as many {item} as {base}."
            step = _calc(value, "/", 2, f"{name} has half as many", name)
        elif kind < 0.7 and value > 10:
            x = cast.upto(2, min(size.change, value - 3))
            text = f"{name} has {x} fewer {item} than {base}."
            step = _calc(value, "-", x, f"{name} has {x} fewer", name)
        else:
            x = cast.upto(2, size.change)
            text = f"{name} has {x} more {item} than {base}."
            step = _calc(value, "+", x, f"{name} has {x} more", name)
        sentences.append(text)
        steps.append(step)
        values.append(step.result)
    if cast.level >= 3 and cast.rng.random() < 0.5:
        cast.rng.shuffle(sentences)
    if cast.rng.random() < 0.6:
        total = values[0]
        for name, value in zip(names[1:], values[1:], strict=True):
            steps.append(_calc(total, "+", value, f"With {name}", "sum"))
            total = steps[-1].result
        return sentences, f"How many {item} do they have in total?", steps
    who = count - 1 if cast.rng.random() < 0.7 or count < 3 else count - 2
    return sentences, f"How many {item} does {names[who]} have?", steps[:who]


def _distractor(cast: _Cast) -> str:
    """A sentence with a number that does not matter."""
    name = cast.names[int(cast.rng.random() * 2)]
    x = cast.upto(2, 90)
    return cast.pick(
        (
            f"{name} is {x} years old.",
            f"The house of {name} has {x} windows.",
            f"{name} also has {x} {cast.items[1]}.",
            f"It is {x} degrees outside.",
            f"The bus ride takes {x} minutes.",
            f"{name} reads {x} pages of a book.",
            f"The road is {x} miles long.",
        )
    )


_FAMILIES: dict[str, Callable[[_Cast], tuple[list[str], str, list[Step]]]] = {
    "running": _running,
    "two_people": _two_people,
    "shopping": _shopping,
    "work": _work,
    "comparison": _comparison,
}
FAMILIES = tuple(_FAMILIES)


def draw(rng: Random, level: int, family: str | None = None) -> Problem:
    """Draw one problem of a level, from either side of the split."""
    if level not in _SIZES:
        raise ValueError(f"unknown level {level}; choose one of {LEVELS}")
    while True:
        chosen = family or FAMILIES[int(rng.random() * len(FAMILIES))]
        cast = _Cast(rng, level)
        sentences, question, steps = _FAMILIES[chosen](cast)
        if len(steps) < 2 or steps[-1].result < 1:
            continue
        for _ in range(rng.randint(*cast.size.distractors)):
            sentences.insert(1 + int(rng.random() * len(sentences)), _distractor(cast))
        text = " ".join([*sentences, question])
        return Problem(text, tuple(steps), steps[-1].result, chosen, level)


def problems(
    seed: int | str, *, held_out: bool, levels: tuple[int, ...] = LEVELS
) -> Iterator[Problem]:
    """Yield problems without end, all from one side of the split, at uniformly drawn levels."""
    rng = Random(seed)
    while True:
        problem = draw(rng, levels[int(rng.random() * len(levels))])
        if is_held_out(problem.question) == held_out:
            yield problem


def tempting_wrong_answer(problem: Problem, rng: Random) -> int:
    """Return a plausible wrong answer: a step too few, a slip of a digit, a near miss."""
    kind = rng.random()
    answer = problem.answer
    if kind < 0.3 and len(problem.steps) > 1:
        wrong = problem.steps[int(rng.random() * (len(problem.steps) - 1))].result
    elif kind < 0.8:
        digits = list(str(answer))
        place = int(rng.random() * len(digits))
        digits[place] = str(rng.randint(1 if place == 0 else 0, 9))
        wrong = int("".join(digits))
    else:
        wrong = max(1, answer + rng.choice((-20, -10, -2, -1, 1, 2, 10, 20)))
    return wrong if wrong != answer else answer + 1
