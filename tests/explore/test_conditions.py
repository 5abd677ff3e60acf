"""What a condition may call: no function that makes something of any length, however its name is written."""

import pytest

from imagescape.errors import InputError
from imagescape.explore.conditions import check_condition


@pytest.mark.parametrize(
    "condition",
    [
        "label = 'cat' AND (width > 100 OR `my column` IS NULL)",
        "array_has(tags, 'it''s') and NOT (lower(uri) LIKE '%(x)%')",
        "label IN ('a', 'repeat(b)')",
        "-- a remark\nweight /* and another */ >= 0.5e3",
        "length(\"label\") < 3 AND tags[1] <> 'x'",
        "größe = 1",
        "uri = 'a\\'",
    ],
)
def test_what_may_be_asked(condition):
    check_condition(condition)


@pytest.mark.parametrize(
    "condition",
    [
        "length(repeat('a', 1000000000000)) > 0",
        "length(REPEAT ('a', 9)) > 0",
        "length(repeat/**/('a', 9)) > 0",
        "length(repeat --\n('a', 9)) > 0",
        "length(\"repeat\"('a', 9)) > 0",
        "length(`repeat`('a', 9)) > 0",
        "lpad('a', 9) = 'b'",
        "array_length(range(9)) > 1",
        "label = 'a' OR 'it''s' = repeat('b', 9)",
        "x.repeat('a', 9) = 'a'",
        "'a\\' = repeat('b', 9) OR 'c' = 'd'",
    ],
)
def test_what_may_not_be_called(condition):
    with pytest.raises(InputError, match="cannot call"):
        check_condition(condition)


@pytest.mark.parametrize(
    "condition", ["$$'$$ = repeat('a', 9) AND 'b' = 'c'", "E'\\' = repeat(' || 'a'", "a ; b", "'open", "a = ?"]
)
def test_what_cannot_be_read(condition):
    with pytest.raises(InputError, match="cannot be understood"):
        check_condition(condition)


def test_the_server_tells(client, refused):
    """Also what only shows while it is worked out."""
    for condition in ("length(repeat('a', 1000000000000)) > 0", "bytes / 0 = 1", "regexp_match(uri, '(') IS NULL"):
        message = refused(client.get("/api/find/where", order=client.order, q=condition), 400, "input")
        assert ".rs" not in message
