r"""Read the integer that a few characters stand for: what a person would read in a box.

Right called wrong costs a point; wrong called right is worse. So notation and units are an open
set (any words), and what makes another number of it (:mod:`.words`) is refused.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from itertools import pairwise

from edgequant.matching.graders import words as w

MAX_CONTENT_CHARACTERS = 400
"""Contents with more characters than this are no integer."""

MAX_DIGITS = 40
"""A number with more digits than this is no answer."""

UPRIGHT = "\x01"
"""Stands for one letter in upright type: a unit."""
_LINE = "\x02"
_NESTING = 8


@functools.lru_cache(maxsize=65_536)
def read_integer(content: str) -> str | None:
    r"""The integer in canonical form ("-3", "1234"), or None where the content is none.

    ``1,234`` ``\$1{,}234.00`` ``x = 40 + 2 = 42`` ``42\text{ cm}^2`` ``\text{Total: } 42`` are
    integers; ``1.234`` ``42.5`` ``3x`` ``5 dozen`` ``\frac{84}{2}`` ``1, 2`` ``5 or 6`` are not.
    """
    if len(content) > MAX_CONTENT_CHARACTERS:
        return None
    side = _last_side(plain(content))
    return None if side is None else _read_side(side)


@functools.lru_cache(maxsize=65_536)
def holds_number(content: str) -> bool:
    r"""The content holds a number of any kind: ``\boxed{}`` and ``\boxed{\checkmark}`` do not."""
    if len(content) > MAX_CONTENT_CHARACTERS:
        return True
    if any(character.isnumeric() or character in "∞π" for character in content):
        return True
    names = re.findall(r"[a-z]+", content.lower())
    return any(
        name in w.SMALL_NUMBERS
        or name in w.MULTIPLIERS - {"k", "mil", "mn", "tn", "bn"}
        or name in w.DENOMINATORS
        or name in ("infty", "pi", "infinity")
        for name in names
    )


# ---- Notation ----------------------------------------------------------------------------------

_CHARACTERS: dict[int, str] = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
    **dict.fromkeys(map(ord, "‐‑‒–−﹣"), "-"),
    **dict.fromkeys(map(ord, "\u3000\u00a0\u202f\u205f\t\n\r\f\v"), " "),
    **dict.fromkeys(range(0x2000, 0x200B), " "),
    **dict.fromkeys((0x200B, 0x200C, 0x200D, 0x200E, 0x2060, 0xFEFF, 0xFE0F), ""),
    **dict.fromkeys(map(ord, "’‘′"), "'"),
    **dict.fromkeys(map(ord, "“”″"), '"'),
    **dict.fromkeys(map(ord, "≈≃≅≡≒→⇒∴⟹⟶➔"), "="),
    **dict.fromkeys(map(ord, "º˚∘"), "°"),
    **dict.fromkeys(map(ord, "「『【《〈〔"), "("),
    **dict.fromkeys(map(ord, "」』】》〉〕"), ")"),
    **dict.fromkeys(map(ord, "⋅∙•"), "·"),
    **dict.fromkeys(map(ord, "✓✔✅■□☑"), " "),
    **{0x1D7CE + index: str(index % 10) for index in range(50)},
    0x3001: ",",
    0x3002: ".",
    0x2103: "°C",
    0x2109: "°F",
}
_SYMBOLS = (
    (re.compile(r"[\x01\x02]"), ""),
    (re.compile(r"\\\\"), _LINE),
    # What is drawn of these is a space, a sign or nothing.
    (re.compile(r"\\(?:boxed|fbox|framebox)\s*\{\s*\}"), " "),
    (re.compile(r"\\(?:begin|end)\s*\{[a-z]*\*?\}(?:\{[lcr|]*\})?|&"), " "),
    (re.compile(r"\\!|\{\}"), ""),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[hv]space\*?\s*\{[^{}]*\}|\\[hv]?phantom\s*\{[^{}]*\}"), " "),
    (
        re.compile(
            r"\\[,;:> /]|~|\\(?:q?quad|enspace|thinspace|hfill|space|nobreakspace)(?![A-Za-z])"
        ),
        " ",
    ),
    (re.compile(r"\\(?:checkmark|blacksquare|square|qed|strut|mathstrut|null)(?![A-Za-z])"), " "),
    # Degrees, and what stands for it.
    (re.compile(r"\^\s*\{?\s*(?:\\circ|\\degree|°|o(?=\}|\b))\s*\}?"), "°"),
    (re.compile(r"\\(?:text)?deg(?:rees?)?(?![A-Za-z])"), "°"),
    (re.compile(r"\\ang\s*\{([^{}]*)\}"), r"\1°"),
    (re.compile(r"\^\s*\{?\s*\\prime\s*\}?"), "'"),
    # Money.
    (
        re.compile(
            r"\\(?:textdollar|mathdollar|dollar|pounds|textsterling|texteuro|euro|EUR|yen|textyen"
            r"|cent|textcent|textrupee|rupee)(?:\{\})?(?![A-Za-z])"
        ),
        "$",
    ),
    # Relations: an equation's or an approximation's last side counts.
    (
        re.compile(
            r"\\(?:approx|simeq|cong|equiv|doteq|sim|to|rightarrow|Rightarrow|implies|therefore"
            r"|longrightarrow|Longrightarrow|Leftrightarrow|iff|approxeq|thickapprox|coloneqq)"
            r"(?![A-Za-z])"
        ),
        "=",
    ),
    (re.compile(r"!=|\\neq?(?![A-Za-z])|\\not\s*="), "≠"),
    (re.compile(r"<=|>=|=<"), "≤"),
    (re.compile(r":=|={2,}|[-=]>"), "="),
    (re.compile(r"\\(?:cdot|times)(?![A-Za-z])"), "·"),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\Omega(?![A-Za-z])"), "Ω"),
    (re.compile(r"\\mu\s*(?![A-Za-z])"), "µ"),
    (re.compile(r"\\colon(?![A-Za-z])"), ":"),
    (re.compile(r"``([^`']*)''"), r'"\1"'),
    (re.compile(r"^\s*—"), "-"),
    (re.compile(r"</?(?:b|i|u|em|strong|span|p|br)\s*/?>", re.IGNORECASE), " "),
)
_UPRIGHT_LETTER = re.compile(
    r"\\(?:text|mathrm|textrm|mathsf|textsf|textnormal|operatorname|rm|mathit|textit|mbox|unit|si)"
    r"\s*\{\s*([A-Za-zΩ])\.?\s*\}"
)
_TWO_ARGUMENTS = re.compile(r"\\(?:textcolor|colorbox|color)\s*\{[^{}]*\}")
_QUANTITY = re.compile(r"\\(?:SI|qty)\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|sl|up|md|normal)?|math(?:rm|bf|it|sf|tt|bb|cal|scr|frak|normal"
    r"|ord|bin|rel|op)|bm|boldsymbol|pmb|mbox|hbox|makebox|emph|overbrace|underbrace|underline|uline|underbar|boxed|fbox"
    r"|framebox|ensuremath|operatorname\*?|num|unit|si|Large|large|huge|Huge|small|tiny)"
    r"\s*\{([^{}]*)\}"
)
_FRACTION_OF_UNITS = re.compile(r"\\[dt]?frac\s*\{\s*([^{}\d\\]*?)\s*\}\s*\{\s*([^{}\d\\]*?)\s*\}")
_SWITCH = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|scriptscriptstyle|bf|it|rm|sf|tt|sl|bfseries|itshape"
    r"|rmfamily|mathbf|boldmath|large|Large|LARGE|huge|Huge|small|normalsize|tiny|left|right"
    r"|[bB]igg?[lrm]?|middle|limits|nolimits|nobreak|centering|mathop|mathrm|text|textbf|boldsymbol)"
    r"(?![A-Za-z])"
)
_DELIMITER = re.compile(r"\\[()\[\]]|\\[lr]brace(?![A-Za-z])|\\[{}]")
_BOLD = re.compile(r"(?<![^\s(\[{\"'$])(\*\*\*?|__)(?=\S)([^*_]+?)(?<=\S)\1(?!\w)")
_CODES = r"USD|EUR|GBP|INR|CHF|CAD|AUD|NZD|JPY|CNY|RMB|HKD|SGD|Rs|RM|kr|[A-Z]{1,3}(?=\s?\\?\$\s?\d)"
_CURRENCY_CODE = re.compile(rf"(?<![A-Za-z])(?:{_CODES})\.?\s*(?=[-+]?\s*\\?[$\d])")
# Between two digits a sign is no currency and no percent: "4%2" is not 42.
_CURRENCY = re.compile(r"(?<!\d)\\?\$|\\?\$(?!\s*\d)")


def plain(content: str) -> str:
    """A content without LaTeX's and Markdown's dress, in ASCII digits and signs where it has any.

    Equations keep ``=`` between their sides; commands that nobody knows stay as they are.
    """
    text = "".join(_character(c) for c in content.translate(_CHARACTERS))
    for pattern, replacement in _SYMBOLS:
        text = pattern.sub(replacement, text)
    text = _UPRIGHT_LETTER.sub(_upright_letter, text)
    text = _QUANTITY.sub(r"\1 \2 ", _TWO_ARGUMENTS.sub(" ", text))
    for _ in range(_NESTING):
        text, count = _TEXT_COMMAND.subn(r" \1 ", text)
        if not count:
            break
    text = _FRACTION_OF_UNITS.sub(r"\1/\2", _SWITCH.sub(" ", text))
    text = _BOLD.sub(r" \2 ", _DELIMITER.sub(_delimiter, text))
    text = re.sub(r"\^\s*\{\s*(-?\d)\s*\}", r"^\1", text)
    text = _CURRENCY.sub("", _CURRENCY_CODE.sub("", text))
    # Braces only group, unless they are a command's or a script's.
    if not re.search(r"\\[A-Za-z]|[_^]\s*\{", text):
        text = re.sub(r"(?<!\\)[{}]", "", text)
    return re.sub(r" {2,}", " ", text).strip()


def _character(character: str) -> str:
    return "$" if unicodedata.category(character) == "Sc" else character


def _upright_letter(match: re.Match[str]) -> str:
    letter = match.group(1)
    if letter == "K" or letter not in w.VARIABLE_LETTERS:
        return f" {UPRIGHT} " if match.start() else f" {letter} "
    return f" {letter} "


def _delimiter(match: re.Match[str]) -> str:
    # \( \) \[ \] only say that math begins or ends; \{ \} are drawn.
    return {r"\{": "(", r"\}": ")", r"\lbrace": "(", r"\rbrace": ")"}.get(match.group(), " ")


# ---- Sides of an equation ----------------------------------------------------------------------

_RELATION = re.compile(r"=")
_LABEL = re.compile(
    r"(?<![\d\s:])\s*:\s*(?=[-+$( ]*\d)"
    r"|(?<![\w'])(?:is|are|was|were|be|equals?|makes|gives|total(?:s|ing))(?: (?:equal )?to)?"
    r"(?: (?:about|approximately|roughly|around|exactly|simply|just|only|therefore|thus))?"
    r"\s*(?=[-+$(]*\s?\d)",
    re.IGNORECASE,
)
_SEVERAL = re.compile(rf"(?<!\d),|,(?!\d{{3}}(?!\d))|[;{_LINE}]|\b(?:or|and)\b", re.IGNORECASE)
_DENIAL = re.compile(r"[≠≤≥<>]|\b(?:not|never)\b|n't\b|\\(?:l|g|ne)", re.IGNORECASE)


def _last_side(text: str) -> str | None:
    """What stands behind the last relation; None where the text is a list of several equations."""
    labelled = list(_LABEL.finditer(text))
    if labelled and "=" not in text[: labelled[0].start()]:
        label = labelled[0]
        name, text = text[: label.start()], text[label.end() :]
        if _DENIAL.search(name) or len(labelled) > 1:
            return None
        text = f"{name.replace('=', ' ')}={text}"
    sides = _RELATION.split(text)
    if len(sides) > 1 and any(_DENIAL.search(side) for side in sides):
        return None
    # A comma between the sides begins another equation: "a = 1, b = 2".
    between = (side.strip(f" ,{_LINE}") for side in sides[1:-1])
    if any(_SEVERAL.search(side) for side in between):
        return None
    if len(sides) > 2 and any(re.search(r"\d\s+[A-Za-z]\s*$", side) for side in sides[1:-1]):
        return None
    return sides[-1].replace(_LINE, " ")


# ---- The number, and the words around it -------------------------------------------------------

_NUMBER = re.compile(
    r"([-+]?)\s*"
    r"([1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?:[ ']\d{3})+(?![\d,])|\d+)(?:\.0*)?(?!\d)",
    re.ASCII,
)
_END = re.compile(r"(?<![.,;: ])\s*[.,;:]$")
_PAIRS = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'", "`": "`", "*": "*", "_": "_"}


def _read_side(side: str) -> str | None:
    side = _without_wrappers(side)
    start = re.search(r"\d|[-+]\s?\d", side, re.ASCII)
    if start is None:
        return None
    lead, rest = side[: start.start()], side[start.start() :].lstrip()
    number = _NUMBER.match(rest)
    if number is None or not _is_harmless_lead(lead, signed=bool(number.group(1))):
        return None
    digits = re.sub(r"[^0-9]", "", number.group(2))
    if len(digits) > MAX_DIGITS or not is_unit(rest[number.end() :], singular=int(digits) == 1):
        return None
    value = int(digits)
    return str(-value if number.group(1) == "-" else value)


def _without_wrappers(side: str) -> str:
    while True:
        bare = _END.sub("", side.strip()).strip()
        if len(bare) > 1 and _PAIRS.get(bare[0]) == bare[-1] and _is_one_pair(bare):
            bare = bare[1:-1]
        if bare.startswith("+-") or bare == side:
            return bare
        side = bare


def _is_one_pair(text: str) -> bool:
    """The first character's partner is the last one: no ``(2)(3)``, no ``"a" and "b"``."""
    return text[0] not in text[1:-1] and text[-1] not in text[1:-1]


def _is_harmless_lead(lead: str, *, signed: bool) -> bool:
    """Words in front of a number that only name it: ``Natalia sold``, ``about``."""
    if not lead.strip():
        return True
    if signed or not lead[-1].isspace():
        # "x - 5" is no -5, and "x5" is a name; writing without spaces has letters beyond ASCII.
        return not signed and lead[-1].isalpha() and not lead[-1].isascii() and lead.isalpha()
    if any(not (c.isalpha() or c in " ,.'-:") for c in lead):
        return False
    names = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", lead.lower())
    if any(name in w.LEADING_OPERATORS or name.endswith("n't") for name in names):
        return False
    pairs = set(pairwise(names))
    if ("up", "to") in pairs or any((name, "of") in pairs for name in w.ORDINALS):
        return False
    last = names[-1] if names else ""
    return not (len(last) == 1 and last.isascii()) and not _is_number_word(last)


_SIGNS = frozenset(f" '\".,/()[]%°-{UPRIGHT}")
_POWER = re.compile(rf"(?<=[A-Za-z.{UPRIGHT}])(?: ?\^ ?-?[1-4](?!\d)|[²³⁻¹]+)")
_UNIT_WITH_DIGIT = re.compile(r"\b([kcmd]?m|ft|in|yd|mi)[23]\b")
_WORD = re.compile(rf"[^\W\d_]+(?:['.-][^\W\d_]+)*|{UPRIGHT}|%|°")
_ALGEBRA = re.compile(r"[xyz]{2,}|a[bc]|bc|abc|pq|mn|uv|nx|kx|dx|dy|i|e")
_CJK_MULTIPLIERS = frozenset("十百千万萬亿億兆半之倍余餘多点點打或")


def is_unit(rest: str, *, singular: bool = False) -> bool:
    """What stands behind a number only says what is counted: `` third graders``, ``cm^2``, ``°``.

    Args:
        rest: all that follows the number.
        singular: the number is one, so that "third" behind it is a fraction.
    """
    rest = _END.sub("", rest.rstrip())
    if not rest:
        return True
    if rest[0] in "'\"":
        # Feet, inches, minutes: nothing more may follow.
        return rest in ("'", '"', "''")
    text = _UNIT_WITH_DIGIT.sub(r"\1", _POWER.sub("", rest))
    text = re.sub(rf"(?<=[A-Za-z{UPRIGHT}]) ?· ?(?=[A-Za-z{UPRIGHT}])", " ", text)
    if not all(c.isalpha() or c in _SIGNS for c in text):
        return False
    if re.match(r"\s*[,.;]|\s*-(?![^\W\d_])|\s+-|\s*/\s*$", text) or re.search(r"\s-|-\s", text):
        return False
    if text.count("(") != text.count(")") or text.count("[") != text.count("]"):
        return False
    return _are_unit_words(text, singular)


def _are_unit_words(text: str, singular: bool) -> bool:
    attached = text[0].isalpha()
    names = _WORD.findall(text)
    if not names:
        return False
    if attached and not _is_attached_unit(names[0]):
        return False
    return all(
        _is_unit_word(names, index, attached=attached and index == 0, singular=singular)
        for index in range(len(names))
    )


def _is_attached_unit(name: str) -> bool:
    """``42kg``, ``42apples``; but no ``3x``, no ``3ab``."""
    if not name[0].isascii():
        return True
    if len(name) == 1:
        return name in w.ATTACHED_UNIT_LETTERS
    return name.lower() in w.SHORT_UNITS or "." in name or len(name) > 2


def _is_unit_word(names: list[str], index: int, *, attached: bool, singular: bool) -> bool:
    name = names[index]
    word = name.lower()
    following = names[index + 1].lower() if index + 1 < len(names) else ""
    if word in ("%", "percent", "cent", "pct"):
        return "off" not in (other.lower() for other in names[index:])
    if name in (UPRIGHT, "°"):
        return True
    if len(name) == 1 and "α" <= name <= "ω" and name != "μ":
        return False
    if len(word) == 1 and word.isascii():
        article = word == "a" and bool(following) and len(following) > 1
        return (article and not attached) or name in w.UNIT_LETTERS
    if index == 0 and (word in w.FIRST_MULTIPLIERS or (word in w.DESCRIBING and not following)):
        return False
    if not word.isascii() and any(c in _CJK_MULTIPLIERS for c in word):
        return False
    parts = [part for part in word.replace("'", "-").split("-") if part]
    if _changes_the_number(word, parts) or _ALGEBRA.fullmatch(word):
        return False
    if word in w.ORDINALS:
        return bool(following) and not singular and following not in ("of", "and", "the")
    return _is_harmless_before(word, following, names[index + 2 :])


def _changes_the_number(word: str, parts: list[str]) -> bool:
    if word.endswith("fold") and word[:-4] in w.SMALL_NUMBERS | w.MULTIPLIERS:
        return True
    if word in w.OPERATORS or word.endswith("n't") or _is_number_word(word):
        return True
    if any(part in w.DENOMINATORS or _is_multiplier(part) for part in parts):
        return True
    # "two-bedroom" describes, "twenty-five" counts.
    return len(parts) > 1 and _is_number_word(parts[-1])


def _is_harmless_before(word: str, following: str, others: list[str]) -> bool:
    if word == "and":
        return following not in w.QUANTITIES
    if word in ("more", "less", "fewer"):
        return following != "than"
    if word in ("a", "the", "grand"):
        return True
    if word in ("times", "time") and following:
        period = following in ("a", "an", "the") and bool(others) and others[0].lower() in w.PERIODS
        return following in w.TIMES_FOLLOWERS or period
    return True


def _is_number_word(word: str) -> bool:
    return (
        word in w.SMALL_NUMBERS
        or (
            word.endswith("s")
            and (word[:-1] in w.SMALL_NUMBERS or word[:-1] + "y" in w.SMALL_NUMBERS)
        )
        or (word.endswith("ies") and f"{word[:-3]}y" in w.SMALL_NUMBERS)
        or word == "sixes"
    )


def _is_multiplier(word: str) -> bool:
    return word in w.MULTIPLIERS or (word.endswith("s") and word[:-1] in w.MULTIPLIERS)
