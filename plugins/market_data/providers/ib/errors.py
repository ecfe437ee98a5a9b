"""Turn the gateway's error codes into typed errors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ib_async import RequestError

from market_data.core.errors import (
    BadRequest,
    EntitlementError,
    NetworkError,
    ProviderError,
    ServerError,
    Throttled,
    UnknownSymbol,
)
from market_data.providers.ib.client import LOST, NO_DATA

UNKNOWN = 200
NOT_INCLUDED = frozenset({203, 354, 420, 10089, 10090, 10168, 10186, 10189})
MALFORMED = frozenset({320, 321, 329, 366, 434, 10314, 10339})
_NO_PERMISSION = re.compile(r"permission|subscri", re.IGNORECASE)


def classify(error: RequestError, text: str, symbols: tuple[str, ...], pause: float, where: Mapping[str, Any]) -> ProviderError:
    """Return the typed error of a gateway's message.

    :param text: its words, fit for a message.
    :param pause: seconds to wait after "too many requests".
    :param where: ``provider`` and ``request``.
    """
    code, lower = error.code, error.message.lower()
    if code == 100 or (code == NO_DATA and "pacing" in lower):
        return Throttled(text, retry_after=pause, **where)
    if code == UNKNOWN and "ambiguous" not in lower:
        return UnknownSymbol(text, symbols=symbols, **where)
    if code in NOT_INCLUDED or (code == NO_DATA and _NO_PERMISSION.search(lower)):
        return EntitlementError(text, **where)
    if code in MALFORMED or code == UNKNOWN:
        return BadRequest(text, **where)
    if code in LOST:
        return NetworkError(text, **where)
    return ServerError(text, **where)
