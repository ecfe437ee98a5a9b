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
    RetriableError,
    ServerError,
    Throttled,
    UnknownSymbol,
)
from market_data.providers.ib.client import LOST, NO_DATA

UNKNOWN = 200
NOT_INCLUDED = frozenset({203, 354, 420, 10089, 10090, 10168, 10186, 10189})
MALFORMED = frozenset({320, 321, 329, 434, 10299, 10314, 10339})
COMPETING = 10197
_NO_PERMISSION = re.compile(r"permission|subscri", re.IGNORECASE)
_WRONG_SPAN = re.compile(r"time length exceed|starting time must occur", re.IGNORECASE)
"""Words of ``NO_DATA`` about a request that will never be right."""


class CompetingSession(RetriableError):
    """The user is logged in somewhere else, and that session has the market data."""

    to_do = "log out of the user's other session, or give the gateway a user of its own; retried automatically"


class AmbiguousContract(BadRequest):
    """Several contracts fit the description: a stock of this symbol is listed more than once."""


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
    kind: type[ProviderError] = ServerError
    if code == COMPETING or (code == NO_DATA and "different ip address" in lower):
        kind = CompetingSession
    elif code in NOT_INCLUDED or (code == NO_DATA and _NO_PERMISSION.search(lower)):
        kind = EntitlementError
    elif code == UNKNOWN:
        kind = AmbiguousContract
    elif code in MALFORMED or (code == NO_DATA and _WRONG_SPAN.search(lower)):
        kind = BadRequest
    elif code in LOST:
        kind = NetworkError
    return kind(text, **where)
