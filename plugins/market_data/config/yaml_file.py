"""Read a YAML file within limits; a key that is there twice is an error, which YAML itself lets pass."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from market_data.core.messages import shown

LARGEST_YAML = 1_000_000
"""Bytes of a YAML file."""
DEEPEST_YAML = 32
"""Levels of lists and objects inside each other."""
MOST_YAML_VALUES = 100_000
"""Values of a YAML file, each counted as often as an alias (``*name``) repeats it."""
_NAME = re.compile(r"(alias|anchor|handle) '[^']*'")
"""The name of an alias, an anchor or a tag in a message of PyYAML's: a password without quotes may begin with ``*``, ``&`` or ``!``."""


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    :raises OSError: if it cannot be read.
    :raises ValueError: if it is not such a file. The message names the line and does not show it: it may hold a password.
    """
    with path.open("rb") as file:
        body = file.read(LARGEST_YAML + 1)
    if len(body) > LARGEST_YAML:
        raise ValueError(f"it has more than {LARGEST_YAML:,} bytes, the most allowed")
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: byte {error.start + 1} is {body[error.start]:#04x}") from None
    try:
        return _read(text, _Quick)
    except _TooMuch as error:
        raise ValueError(_described(error)) from None
    except NOT_YAML:
        # libyaml refuses some YAML that PyYAML's own parser reads, such as {symbols:[A]}, and says less of what is wrong. It also reads
        # some that the other refuses, such as a tab after a value.
        return _read_plainly(text)


def _read_plainly(text: str) -> Any:
    try:
        return _read(text, _Plain)
    except yaml.MarkedYAMLError as error:
        raise ValueError(_described(error)) from None
    except NOT_YAML:
        raise ValueError("it is not YAML, or a value does not fit its tag") from None


def _read(text: str, kind: Any) -> Any:
    _check_limits(text, kind)
    loader = kind(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _check_limits(text: str, kind: Any) -> None:
    """Check levels and number of values before the values are made: a parser calls itself for each level.

    :raises _TooMuch: if there are too many.
    :raises yaml.YAMLError: if it is not YAML.
    """
    depth = values = 0
    event: Any
    for event in yaml.parse(text, kind):
        is_value, mark = isinstance(event, yaml.NodeEvent), event.start_mark
        values += is_value
        if values > MOST_YAML_VALUES:
            raise _TooMuch(problem=f"more than {MOST_YAML_VALUES:,} values", problem_mark=mark)
        if depth == DEEPEST_YAML and is_value:
            raise _TooMuch(problem=f"more than {DEEPEST_YAML} levels", problem_mark=mark)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)


def _described(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    parts = (error.context, f"line {mark.line + 1}" if mark else None, error.problem)
    return _NAME.sub(r"\1", ": ".join(part for part in parts if part))


class _TooMuch(yaml.MarkedYAMLError):
    """Above a limit, whatever the parser."""


class _Limited:
    """Limits and errors that a `SafeLoader` lacks."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()  # type: ignore[misc]
        if _values(node, {}) > MOST_YAML_VALUES:
            raise _TooMuch(problem=f"its aliases make more than {MOST_YAML_VALUES:,} values")
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)  # type: ignore[misc]
        except (ValueError, ArithmeticError, AttributeError, LookupError, TypeError):
            # Its message may have the value. Raised below, the new error does not hold the old one as its context.
            problem = "a date that does not exist, a number that is too long, or a value that does not fit its tag"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # an error of the mapping itself
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {shown(key)} is there twice", problem_mark=key_node.start_mark)
            seen.add(key)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)  # type: ignore[misc]
        return found

    def construct_unknown(self, node: Any) -> Any:
        raise yaml.MarkedYAMLError(
            problem="a value has an unknown tag, or begins with ! or is = or << and has no quotes", problem_mark=node.start_mark
        )


class _Plain(_Limited, yaml.SafeLoader):
    """PyYAML's own parser."""


class _Quick(_Limited, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml's parser takes a tenth of the time; PyYAML may have been built without it."""


_LOADERS: tuple[Any, ...] = (_Plain, _Quick)
for _loader in _LOADERS:
    _loader.add_constructor(None, _Limited.construct_unknown)

NOT_YAML = (yaml.YAMLError, RecursionError, UnicodeError, ArithmeticError, AttributeError, LookupError, TypeError)
"""Errors of the parsers, some of them of odd tags."""


def _values(node: Any, known: dict[int, float]) -> float:
    """Return the number of values of a node, those behind its aliases too.

    Infinity where it holds itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")  # while its own values are counted
        inside = [one for item in node.value for one in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_values(one, known) for one in inside)
    return known[id(node)]
