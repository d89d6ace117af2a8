"""Texts of prompts: a small, bounded part of Jinja, for files that other people wrote.

There are variables, their items, conditions, loops over what there is to choose from, and a few
filters. There is nothing that calls, assigns or includes, and no loop in a loop: a text of a page
ends soon, and stays small, whatever is in it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_SOURCE_LENGTH = 100_000
MAX_RENDERED_LENGTH = 4 << 20
MAX_MESSAGE_LENGTH = 300
FILTERS = ("trim", "upper", "lower", "length", "join")
_NODES = frozenset(
    (
        *("Template", "Output", "TemplateData", "Name", "Const", "Getattr", "Getitem"),
        *("If", "CondExpr", "For", "Filter", "Test", "Compare", "Operand"),
        *("And", "Or", "Not", "Add", "Sub", "Concat"),
    )
)
_TESTS = ("defined", "none", "odd", "even", "divisibleby")


def check_template(source: str, variables: frozenset[str]) -> frozenset[str]:
    """The variables that a text uses.

    Args:
        source: the text.
        variables: those that there are.

    Raises:
        ValueError: it is no such text, or uses another variable; the message is for people.
    """
    from jinja2 import TemplateSyntaxError, meta

    if len(source) > MAX_SOURCE_LENGTH:
        raise ValueError(f"a text of more than {MAX_SOURCE_LENGTH} characters")
    try:
        tree = _environment().parse(source)
        _check_nodes(tree)
        used = frozenset(meta.find_undeclared_variables(tree))
        _compiled(source)
    except TemplateSyntaxError as error:
        raise ValueError(_short(f"line {error.lineno}: {error.message}")) from error
    except (RecursionError, SyntaxError, MemoryError):
        # What Python makes of a text compiled from hundreds of levels.
        raise ValueError("it is nested too deep") from None
    unknown = sorted(used - variables)
    if unknown:
        there = ", ".join(sorted(variables))
        missing = _short(", ".join(unknown))
        raise ValueError(f"no variable {missing}; there are {there}")
    return used


def render_template(source: str, values: Mapping[str, object]) -> str:
    """A text with its variables put in; what they hold is text, and no template.

    Raises:
        ValueError: an item is not there, or the text becomes too long.
    """
    from jinja2 import TemplateError

    parts: list[str] = []
    length = 0
    try:
        for part in _compiled(source).generate(**values):
            length += len(part)
            if length > MAX_RENDERED_LENGTH:
                raise ValueError(f"it comes to more than {MAX_RENDERED_LENGTH} characters")
            parts.append(part)
    except (TemplateError, TypeError, ArithmeticError) as error:
        raise ValueError(_short(str(error))) from error
    return "".join(parts)


def _short(message: str) -> str:
    return message if len(message) <= MAX_MESSAGE_LENGTH else f"{message[:MAX_MESSAGE_LENGTH]} ..."


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    from jinja2 import StrictUndefined
    from jinja2.runtime import LoopContext
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
            return isinstance(obj, LoopContext) and super().is_safe_attribute(obj, attr, value)

    environment = Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=_not_none
    )
    environment.globals.clear()
    for kept, among in ((FILTERS, environment.filters), (_TESTS, environment.tests)):
        for name in among.keys() - set(kept):
            del among[name]
    return environment


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


def _not_none(value: object) -> object:
    if value is None:
        raise ValueError("a variable that holds nothing here is written; ask with {% if %} before")
    return value


def _check_nodes(tree: nodes.Template) -> None:
    from jinja2 import TemplateSyntaxError, nodes

    for node in tree.find_all(nodes.Node):
        kind = type(node).__name__
        if kind not in _NODES:
            raise TemplateSyntaxError(f"no {kind.lower()} in a prompt", node.lineno)
        # What could grow without end: loops in loops, and filters of what filters made.
        if isinstance(node, nodes.For) and (node.recursive or _holds(node, nodes.For)):
            raise TemplateSyntaxError("no loop in a loop in a prompt", node.lineno)
        if isinstance(node, nodes.Filter) and _holds(node, nodes.Filter):
            raise TemplateSyntaxError("no filter of a filter in a prompt", node.lineno)


def _holds(node: nodes.Node, kind: type[nodes.Node]) -> bool:
    return any(True for _ in node.find_all(kind))
