"""Read the JSON of receipts: `publish` reads thousands of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

VALUE, PARTS = msgspec.json.Decoder(), msgspec.json.Decoder(dict[str, msgspec.Raw])
RUNS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def document(text: str) -> Any:
    """Return what `json.loads` does, but with the symbols as tuples. Receipts of one universe share them.

    Their lists are nearly all of a receipt, and `publish` reads thousands of receipts.
    """
    try:
        parts = PARTS.decode(text)
        found = {name: VALUE.decode(part) for name, part in parts.items() if name not in {"request", "cells"}}
        if "request" in parts:
            found["request"] = _with_symbols(PARTS.decode(parts["request"]))
        if "cells" in parts:
            found["cells"] = [_with_symbols(run) for run in RUNS.decode(parts["cells"])]
    except msgspec.MsgspecError:
        return json.loads(text)  # accepts what JSON does not have, such as half a character, and names any other fault
    return found


def _with_symbols(parts: Mapping[str, msgspec.Raw]) -> dict[str, Any]:
    return {name: _symbols(bytes(part)) if name == "symbols" else VALUE.decode(part) for name, part in parts.items()}


@lru_cache(maxsize=64)
def _symbols(text: bytes) -> Any:
    found = VALUE.decode(text)
    return tuple(found) if isinstance(found, list) else found
