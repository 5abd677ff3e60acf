"""SQL conditions that come over the network: what they may call, so that none can take the server's memory.

Some functions of the table's query language make texts or lists of any length (`repeat('a', 1000000000000)`), and the
memory that they want ends the process. A condition may compare, combine, and call the functions below.
"""

import re

from imagescape.errors import InputError

MOST_SIGNS = 2000

FUNCTIONS = (
    *("abs", "array_has", "array_has_all", "array_has_any", "array_length", "cast", "ceil", "char_length"),
    *("character_length", "coalesce", "contains", "date_part", "ends_with", "floor", "isnan", "length", "ln"),
    *("log10", "lower", "nullif", "power", "regexp_like", "regexp_match", "round", "sqrt", "starts_with", "strpos"),
    *("substr", "substring", "trim", "upper"),
)
"""The functions that a condition may call."""

_BEFORE_BRACKETS = frozenset({"and", "or", "not", "in", "is", "like", "ilike", "between", "then", "else", "when"})
_TOKENS = re.compile(
    r"(?P<space>\s+|--[^\n]*|/\*.*?\*/)"
    r"|(?P<text>'(?:[^']|'')*')"
    r'|(?P<quoted>`[^`]*`|"[^"]*")'
    r"|(?P<word>[^\W\d]\w*)"
    r"|(?P<number>\d[\w.]*)"
    r"|(?P<sign>[-+*/%=<>!(),.\[\]|&:])",
    re.DOTALL,
)


def check_condition(condition: str) -> None:
    """Refuse a condition that calls other functions, or cannot be read.

    Raises:
        InputError: the message says what is wrong.
    """
    if not condition.strip() or len(condition) > MOST_SIGNS:
        raise InputError(f"a condition has 1 to {MOST_SIGNS} signs, such as label = 'cat'; got {len(condition)}")
    at, before, kind_before = 0, "", ""
    while at < len(condition):
        token = _TOKENS.match(condition, at)
        if token is None:
            raise InputError(f"the condition cannot be understood at {condition[at : at + 20]!r}")
        kind, at = str(token.lastgroup), token.end()
        # E'…' and the like read the text by other rules than these.
        if kind == "text" and kind_before == "word" and condition[token.start() - 1] == before[-1]:
            raise InputError(f"the condition cannot be understood at {before + token[0][:20]!r}")
        if kind == "space":
            continue
        is_call = token[0] == "(" and kind_before in ("word", "quoted")
        if is_call and before.lower() not in _BEFORE_BRACKETS.union(FUNCTIONS):  # a quoted name is in neither
            raise InputError(f"a condition cannot call {before}; it can: {', '.join(FUNCTIONS)}")
        before, kind_before = token[0], kind
