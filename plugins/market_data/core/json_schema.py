"""Check a value against a JSON schema, and describe the allowed values.

``jsonschema`` does the checking; Airflow loads it anyway. Four rules differ from the standard. A pattern must match the whole text.
NaN and the infinities are not numbers, although Python's JSON reads them as such. The items of a list are left to the caller, who
names each wrong one. A timestamp at midnight is a date.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from market_data.core.dates import read_date

Schema = Mapping[str, Any]


def fits(value: Any, schema: Schema) -> bool:
    """Return True where ``value`` fits; the items of a list are not checked."""
    return bool(_validator(json.dumps(schema)).is_valid(value))


def needed(schema: Schema) -> str:
    """Return what is allowed, as the end of a message."""
    name = _kind(schema)
    if "enum" in schema:
        return f"allowed: {', '.join(map(str, schema['enum']))}"
    if schema.get("format") == "date":
        return "a date such as 2026-11-02 is needed"
    if "pattern" in schema:
        return f"text such as {schema['examples'][0]} is needed"
    if name in ("integer", "number"):
        low, high = schema.get("minimum"), schema.get("maximum")
        bounds = f" from {low} to {high}" if high is not None else f" from {low} on" if low is not None else ""
        return f"a {'whole ' if name == 'integer' else ''}number{bounds} is needed"
    if name == "object":
        inside = " and ".join(f"{key} ({needed(each).removesuffix(' is needed')})" for key, each in schema["properties"].items())
        return f"an object with {inside} is needed"
    return {"array": "a list of symbols is needed", "boolean": "true or false is needed", "string": "text is needed"}[name]


def read(value: Any, schema: Schema) -> Any:
    """Return a value that fits as Python has it: dates, whole numbers, tuples."""
    if value is None:
        return None
    if schema.get("format") == "date":
        return read_date(value)
    if _kind(schema) == "integer":
        return int(value)  # JSON does not tell 25 from 25.0
    return tuple(value) if isinstance(value, list) else value


def _kind(schema: Schema) -> str:
    """Return the JSON type, null apart."""
    found = schema["type"]
    return found if isinstance(found, str) else str(next(name for name in found if name != "null"))


@cache
def _validator(schema: str) -> Validator:
    found: Validator = _Checker(json.loads(schema), format_checker=_FORMATS)
    return found


def _whole_text(_: Validator, pattern: str, text: Any, __: Schema) -> Iterator[ValidationError]:
    if isinstance(text, str) and re.fullmatch(pattern, text) is None:
        yield ValidationError(f"does not match {pattern}")


def _left_to_the_caller(*_: Any) -> Iterator[ValidationError]:
    return iter(())


def _finite(_: Any, value: Any) -> bool:
    if isinstance(value, int):  # of any size, while a float ends at 1e308
        return not isinstance(value, bool)
    return isinstance(value, float) and math.isfinite(value)


def _whole(_: Any, value: Any) -> bool:
    return _finite(_, value) and value == int(value)


_FORMATS = FormatChecker([])
_FORMATS.checks("date", raises=ValueError)(lambda value: not isinstance(value, str) or bool(read_date(value)))
_TYPES = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {"number": _finite, "integer": _whole, "array": lambda _, value: isinstance(value, list | tuple)}
)
_Checker = extend(Draft202012Validator, {"pattern": _whole_text, "items": _left_to_the_caller}, type_checker=_TYPES)
