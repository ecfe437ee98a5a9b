"""Values against JSON schemas: what fits, and what to say of what does not.

By hand, as every parse of a DAG file comes here, and importing ``jsonschema`` takes longer than all the rest of it. Known are ``type``
(``string``, ``integer``, ``number``, ``boolean``, ``array``, or one of these with ``null``), ``enum``, ``format: date``, ``pattern``,
``minimum`` and ``maximum``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any

Schema = Mapping[str, Any]


def kind(schema: Schema) -> str:
    """The JSON type, null apart."""
    found = schema["type"]
    return found if isinstance(found, str) else str(next(name for name in found if name != "null"))


def fits(value: Any, schema: Schema) -> bool:
    """Whether a value is what the schema asks for; the items of a list are not looked at."""
    if value is None:
        return "null" in schema["type"]
    match kind(schema):
        case "boolean":
            return isinstance(value, bool)
        case "array":
            return isinstance(value, list | tuple)
        case "string":
            return isinstance(value, str) and _text_fits(value, schema)
        case number:
            return not isinstance(value, bool) and isinstance(value, int | float) and _number_fits(value, number, schema)


def needed(schema: Schema) -> str:
    """What is allowed, as the end of a message."""
    name = kind(schema)
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
    return {"array": "a list of symbols is needed", "boolean": "true or false is needed", "string": "text is needed"}[name]


def read(value: Any, schema: Schema) -> Any:
    """A fitting value as Python has it."""
    if value is None:
        return None
    if schema.get("format") == "date":
        return as_date(value)
    if kind(schema) == "integer":
        return int(value)  # JSON knows no difference between 25 and 25.0
    return tuple(value) if isinstance(value, list) else value


def as_date(text: str) -> date | None:
    """The date that ``text`` is in the form 2026-11-02, or None."""
    try:
        return date.fromisoformat(text) if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else None
    except ValueError:
        return None


def _number_fits(value: float, number: str, schema: Schema) -> bool:
    if not math.isfinite(value) or (number == "integer" and value != int(value)):
        return False  # Python's JSON reads Infinity and NaN as numbers
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def _text_fits(text: str, schema: Schema) -> bool:
    if "enum" in schema:
        return text in schema["enum"]
    if "pattern" in schema:
        return re.fullmatch(schema["pattern"], text) is not None
    return schema.get("format") != "date" or as_date(text) is not None
