"""English (and a few other) words beside a number, by what they do to it."""

from __future__ import annotations

SMALL_NUMBERS = frozenset(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fourty fifty sixty seventy eighty ninety
    oh nought naught""".split()
)
"""Words that are numbers by themselves; their plurals ("fives") count as well."""

MULTIPLIERS = frozenset(
    """hundred thousand million billion trillion quadrillion zillion dozen gross lakh lac crore mil
    mn mln bn tn myriad thou bajillion googol million million(s) k
    tausend hundert millionen dutzend mille mil millones docena docenas cien cientos
    тысяч тысячи тыс млн млрд миллион миллионов""".replace("(s)", "s").split()
)
"""Words after which "5" is no longer 5: "5 dozen", "5k"."""

FIRST_MULTIPLIERS = frozenset(
    """score scores grand squared cubed halved doubled tripled quadrupled twice thrice fold over and
    to by less off out upon against through versus vs x""".split()
)
"""They change the number only where they follow it at once: "5 over two", but "5 goals over par"."""

OPERATORS = frozenset(
    """plus minus divided multiplied mod modulo modulus factorial factorials choose sqrt pi sin cos
    tan log ln exp infinity remainder raised or nor not never neither isn't aren't wasn't cannot
    wrong incorrect half halves halfs quarter quarters ½ demi medio halb""".split()
)
"""Words that change or deny a number wherever they stand behind it."""

LEADING_OPERATORS = OPERATORS | frozenset(
    """half third quarter twice thrice double triple quadruple times over under above below than
    least most multiple square cube root power factor between from within without except
    choose base per of by to until upto and negative minus plus dozen hundred thousand
    million billion less fewer more exceed exceeds beyond only""".split()
) - frozenset({"only", "of", "from", "and", "to", "more"})
"""Words in front of a number that make another one of it, or a bound: "half 42", "at least 5"."""

ORDINAL_STEMS = (
    "four fif six seven eigh nin ten eleven twelf thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twentie thirtie fortie fiftie sixtie seventie eightie ninetie hundred "
    "thousand million billion"
).split()
ORDINALS = frozenset({"third"} | {f"{stem}th" for stem in ORDINAL_STEMS})
"""A fraction's denominator ("1 fifth") or an ordinal ("42 third graders")."""
DENOMINATORS = frozenset(
    {f"{word}s" for word in ORDINALS} | {"half", "halves", "quarter", "quarters"}
)

QUANTITIES = frozenset(
    "a an another some few several half quarter counting more change then".split()
)
"""Behind "and" they add to the number: "5 and a half", "5 dollars and some change"."""

TIMES_FOLLOWERS = frozenset(
    """as more less larger bigger greater smaller older younger faster slower longer higher taller
    heavier per each every in daily weekly monthly yearly today altogether total is was
    before after during this that last""".split()
) - frozenset({"that", "this", "is", "was"})
"""Behind "5 times" they leave it a count; anything else is multiplied."""
PERIODS = frozenset(
    "day week month year hour minute second game night morning season semester class".split()
)

UNIT_LETTERS = frozenset("mlLgsShHdAVWNJCFKΩ")
"""Letters that are read as a unit behind a number and a space, in math: "42 m"."""
ATTACHED_UNIT_LETTERS = frozenset("mlLgshACFVWNJΩ")
"""The same without the space: "42m"."""
VARIABLE_LETTERS = frozenset("xyznkiejMBKT")
"""Letters that are a variable or a multiplier even in upright type (but \\text{K} is kelvin)."""

SHORT_UNITS = frozenset(
    """kg km cm mm dm nm ml dl cl mg lb lbs oz ft yd mi mph kph kmh hr hrs min mins sec secs ms am pm
    st nd rd th mb gb tb kb hz kw kv pa pt qt gal usd eur gbp inr cny rmb aud cad chf rs yr yrs wk
    wks sq cc ha pcs cts kwh mw""".split()
)
"""Units of few letters that may stand at the number without a space."""
