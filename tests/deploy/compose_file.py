"""`deploy/compose/docker-compose.yaml` as a test reads it: anchors and variables resolved as Docker Compose does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[2] / "deploy" / "compose" / "docker-compose.yaml"
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


def resolved(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the file's content with ``environ`` in it.

    :raises KeyError: a variable without a default is not in ``environ``.
    """
    return _resolved(yaml.safe_load(FILE.read_text()), environ)


def variables() -> set[str]:
    """Return the names of the variables that have no default."""
    found = VARIABLE.findall(FILE.read_text())
    return {name for _, name, sign, _ in found if name} - {name for _, name, sign, _ in found if sign == "-"}


def _resolved(value: Any, environ: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(one, environ) for key, one in value.items()}
    if isinstance(value, list):
        return [_resolved(one, environ) for one in value]
    return VARIABLE.sub(lambda found: _value(found, environ), value) if isinstance(value, str) else value


def _value(found: re.Match[str], environ: Mapping[str, str]) -> str:
    dollar, name, sign, text = found.groups()
    if dollar:
        return "$"
    return environ.get(name, text) if sign == "-" else environ[name]
