"""Read a YAML file within limits; a key that is there twice is an error, which YAML itself lets pass."""

from __future__ import annotations

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
        loader = _Loader(body.decode("utf-8-sig"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: byte {error.start + 1} is {body[error.start]:#04x}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        parts = (error.context, f"line {mark.line + 1}" if mark else None, error.problem)
        raise ValueError(": ".join(part for part in parts if part)) from None
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, RecursionError):  # of a tag: !!bool x
        raise ValueError("it is not YAML, or a value does not fit its tag") from None


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` with limits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if _values(node, {}) > MOST_YAML_VALUES:
            raise yaml.MarkedYAMLError(problem=f"its aliases make more than {MOST_YAML_VALUES:,} values")
        return node

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > DEEPEST_YAML:
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST_YAML} levels", problem_mark=event.start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

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
        return super().construct_mapping(node, deep=deep)


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
