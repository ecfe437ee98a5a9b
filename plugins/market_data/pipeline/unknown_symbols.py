"""Check symbols that a provider reports as unknown.

One with bars in the ledger is a failure of the provider. For others, the symbol that was probably meant is suggested.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING

from market_data.core.calendar import sessions_in
from market_data.core.errors import ServerError, UnknownSymbol
from market_data.core.messages import some
from market_data.core.outcome import State

if TYPE_CHECKING:
    from market_data.core.batch import Request
    from market_data.lake.ledger import Coverage
    from market_data.pipeline.run_context import RunContext

SHORTEST = 3
"""Characters of a symbol for which a suggestion makes sense: two letters are one edit away from dozens."""

LIFE_OVER = 20
"""Recorded ``empty`` cells after the last bar of a symbol that show its delisting."""

WITH_ROWS = (State.HAVE, State.QUARANTINED, State.REFUSED)


def check_unknown(context: RunContext, request: Request, error: UnknownSymbol) -> None:
    """Check that no symbol that is reported as unknown has bars in the ledger.

    A provider whose symbol service is away reports every symbol as unknown.

    :raises ServerError: if one has.
    """
    from market_data.lake.ledger import read_coverage

    coverage = read_coverage(context.lake, context.feed.dataset, context.source)
    known = last_bars(coverage, error.symbols or request.symbols, sessions_in(request.intervals)[0])
    if known:
        named = some(f"{symbol} (last bar {last})" for symbol, last in known.items())
        raise ServerError(
            f"reported as unknown, but the ledger has bars: {named}; reported: {error.said}",
            provider=context.source,
            request=str(request),
            request_id=error.request_id,
        ) from error


def last_bars(coverage: Coverage, symbols: Sequence[str], first: date) -> dict[str, date]:
    """Return the symbols that cannot be unknown -> session of the last bar.

    These have bars in the ledger, before or after the request. Left out are symbols whose life was over before ``first``: the ledger
    has at least ``LIFE_OVER`` cells without a row after their last bar.

    :param first: first session of the request.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = coverage.table.select(["symbol", "session", "state"])
    own = table.filter(pc.is_in(table["symbol"].cast(pa.string()), pa.array(symbols, pa.string())))
    bars: dict[str, date] = {}
    holes: dict[str, list[date]] = {}
    for symbol, session, state in zip(*(column.to_pylist() for column in own.columns), strict=True):
        if State(state) in WITH_ROWS:
            bars[symbol] = max(session, bars.get(symbol, session))
        elif State(state) is State.EMPTY:
            holes.setdefault(symbol, []).append(session)
    return {
        symbol: last
        for symbol, last in bars.items()
        if last >= first or sum(last < session < first for session in holes.get(symbol, ())) < LIFE_OVER
    }


def did_you_mean(symbol: str, known: Iterable[str]) -> str | None:
    """Return the known symbol closest to ``symbol``, or None if none is close.

    Close is another spelling (``brk-b``), two neighbouring characters swapped, or one changed, added or missing; for longer symbols also
    what ``difflib`` finds. If several are close, the one with the same length and letters is returned.
    """
    candidates = sorted(set(known) - {symbol})
    same = [name for name in candidates if _plain(name) == _plain(symbol)]
    if same:
        return same[0]
    if len(symbol) < SHORTEST:
        return None
    near = [(_distance(symbol.upper(), name.upper()), name) for name in candidates if abs(len(name) - len(symbol)) <= 1]
    ranked = sorted(
        (name for distance, name in near if distance == 1 and len(name) >= SHORTEST),
        key=lambda name: (
            sorted(name.upper()) != sorted(symbol.upper()),  # swapped characters first
            len(name) != len(symbol),
            set(name.upper()) != set(symbol.upper()),
            name[:1].upper() != symbol[:1].upper(),
            name,
        ),
    )
    if ranked:
        return ranked[0]
    return next(iter(difflib.get_close_matches(symbol, candidates, n=1, cutoff=0.8)), None)


def _plain(symbol: str) -> str:
    return "".join(character for character in symbol.upper() if character.isalnum())


def _distance(one: str, other: str) -> int:
    """Return 0 if equal, 1 if one edit or one swap of neighbours apart, else 2."""
    if one == other:
        return 0
    start = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    rest, others = one[start:], other[start:]
    swapped = len(rest) > 1 and len(others) > 1 and rest[:2] == others[1::-1] and rest[2:] == others[2:]
    edited = rest[1:] == others[1:] or rest[1:] == others or rest == others[1:]
    return 1 if swapped or edited else 2
