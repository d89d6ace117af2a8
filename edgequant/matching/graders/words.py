"""English (and a few other) words beside a number, by what they do to it."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SMALL_NUMBERS = _words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fourty fifty sixty seventy eighty
    ninety oh nought naught
""")
"""Words that are numbers by themselves; their plurals ("fives") count as well."""

MULTIPLIERS = _words("""
    hundred thousand million billion trillion quadrillion zillion dozen doz dz gross lakh lac crore
    mn mln bn tn myriad thou bajillion googol million k tausend hundert millionen dutzend mille
    mil millones docena docenas cien cientos тысяч тысячи тыс млн млрд миллион миллионов
""")
"""Words after which "5" is no longer 5: "5 dozen", "5k"."""

FIRST_MULTIPLIERS = _words("""
    score scores grand squared cubed halved doubled tripled quadrupled twice thrice fold over and
    to by less off out upon against through into versus vs x permille mill subtract subtracted
    add added ish
""")
"""They change it only where they follow it at once: "5 over two", but "5 goals over par"."""

DESCRIBING = _words("double triple quadruple")
"""They change it where nothing follows that they describe: "5 double", but "5 double beds"."""

OPERATORS = _words("""
    plus minus divided multiplied mod modulo modulus factorial factorials choose sqrt pi sin cos
    tan log ln exp infinity remainder raised or nor not never neither isn't aren't wasn't cannot
    wrong incorrect half halves halfs quarter quarters demi medio halb
""")
"""Words that change or deny a number wherever they stand behind it."""

LEADING_OPERATORS = OPERATORS | _words("""
    third twice thrice double triple quadruple times over under above below than least most
    multiple square cube root power factor between within without except base per by until upto
    negative dozen hundred thousand million billion less fewer exceed exceeds beyond
""")
"""Words in front of a number that make another one of it, or a bound: "half 42", "at least 5"."""

_ORDINAL_STEMS = _words("""
    four fif six seven eigh nin ten eleven twelf thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twentie thirtie fortie fiftie sixtie seventie eightie ninetie hundred
    thousand million billion
""")
ORDINALS = frozenset({"third"} | {f"{stem}th" for stem in _ORDINAL_STEMS})
"""A fraction's denominator ("1 fifth") or an ordinal ("42 third graders")."""
DENOMINATORS = frozenset(
    {f"{word}s" for word in ORDINALS} | {"half", "halves", "quarter", "quarters"}
)

QUANTITIES = _words("""
    a an another some few several half quarter counting more change then
""")
"""Behind "and" they add to the number: "5 and a half", "5 dollars and some change"."""

TIMES_FOLLOWERS = _words("""
    as more less larger bigger greater smaller older younger faster slower longer higher taller
    heavier per each every in daily weekly monthly yearly today altogether total before after
    during last
""")
"""Behind "5 times" they leave it a count; anything else is multiplied."""
PERIODS = _words("""
    day week month year hour minute second game night morning season semester class
""")

UNIT_LETTERS = frozenset("mlLgsShHdAVWNJCFKΩ")
"""Letters that are read as a unit behind a number and a space, in math: "42 m"."""
ATTACHED_UNIT_LETTERS = frozenset("mlLgshACFVWNJΩ")
"""The same without the space: "42m"."""
VARIABLE_LETTERS = frozenset("xyznkiejMBKT")
"""Letters that are a variable or a multiplier even in upright type (but \\text{K} is kelvin)."""

SHORT_UNITS = _words("""
    kg km cm mm dm nm ml dl cl mg lb lbs oz ft yd mi mph kph kmh hr hrs min mins sec secs ms am
    pm st nd rd th mb gb tb kb hz kw kv pa pt qt gal usd eur gbp inr cny rmb aud cad chf rs yr
    yrs wk wks sq cc ha pcs cts kwh mw
""")
"""Units of few letters that may stand at the number without a space."""
