"""Values against the schemas of params and options: what fits, and the words for what is allowed."""

import math
from datetime import date

import pytest

from market_data.core.json_schema import fits, needed, read

DATE = {"type": ["null", "string"], "format": "date"}
WHOLE = {"type": "integer", "minimum": 1, "maximum": 10}
SHARE = {"type": "number", "minimum": 0}
NAME = {"type": "string", "pattern": r"auto|[A-Z]{4}", "examples": ["EQUS"]}
CHOICE = {"type": "string", "enum": ["day", "year"]}
SYMBOLS = {"type": ["null", "array"], "items": {"type": "string"}}
FLAG = {"type": "boolean"}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            DATE,
            [None, "2026-11-02", "2026-11-02T00:00"],
            ["20261102", "2026-13-01", "2026-11-02T00:01", "2026-W45-1", 20261102, ""],
        ),
        (WHOLE, [1, 10, 5.0], [0, 11, 5.5, True, None, "5", math.nan, math.inf, [5], 10**400, -(10**400)]),
        (SHARE, [0, 0.5, 10**30, 10**400], [-0.1, math.nan, math.inf, -math.inf, False, "1"]),
        (NAME, ["auto", "EQUS"], ["autos", "xauto", "auto\n", "equs", None, 7]),
        (CHOICE, ["day"], ["Day", "", None, 1]),
        (SYMBOLS, [None, [], ["A"], [1], ("A",)], ["A", {"A": 1}, 1]),
        (FLAG, [True, False], [1, 0, "true", None]),
    ],
)
def test_a_value_fits_or_does_not(schema, good, bad):
    assert [value for value in good if not fits(value, schema)] == []
    assert [value for value in bad if fits(value, schema)] == []


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (DATE, "a date such as 2026-11-02 is needed"),
        (WHOLE, "a whole number from 1 to 10 is needed"),
        (SHARE, "a number from 0 on is needed"),
        (NAME, "text such as EQUS is needed"),
        (CHOICE, "allowed: day, year"),
        (SYMBOLS, "a list of symbols is needed"),
        (FLAG, "true or false is needed"),
        ({"type": "string"}, "text is needed"),
    ],
)
def test_the_message_says_what_is_allowed(schema, text):
    assert needed(schema) == text


def test_a_fitting_value_is_read_as_python_has_it():
    assert read("2026-11-02", DATE) == date(2026, 11, 2)
    assert (read(5.0, WHOLE), type(read(5.0, WHOLE))) == (5, int)
    assert read(["A", "B"], SYMBOLS) == ("A", "B")
    assert read(None, SYMBOLS) is None
