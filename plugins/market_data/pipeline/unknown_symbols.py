"""Check symbols that a provider reports as unknown, or of which its response has no row.

A contradiction to the ledger is a failure of the provider. For unknown symbols, the one that was probably meant is suggested.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from market_data.core import calendar
from market_data.core.dates import dates_of
from market_data.core.errors import ServerError, UnknownSymbol
from market_data.core.messages import some
from market_data.core.outcome import State
from market_data.core.request_rows import without_rows
from market_data.lake.cells import cells_of
from market_data.pipeline.gaps import OTHERS
from market_data.pipeline.known_lives import LIFE_OVER, WITH_ROWS, KnownLives, Nearby

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.core.batch import Request
    from market_data.lake.coverage import Coverage
    from market_data.pipeline.run_context import RunContext

SHORTEST = 3
"""Characters of a symbol for which a suggestion makes sense: two letters are one edit away from dozens."""

SEVERAL = 3
"""Symbols, or sessions of one symbol, without a row that cannot be a coincidence."""


@dataclass(frozen=True)
class _Absent:
    """Symbols that have no row in their cells of a block, and the sessions of these cells."""

    sessions: Sequence[date]
    near: Nearby


class AbsenceCheck:
    """Judges the responses of a batch that have no row of a symbol.

    The ledger and the universe tell if it should have some. A provider whose symbol service or database is away reports symbols as
    unknown, or returns nothing for them.

    :param served: requests that an earlier try of the batch finished have brought rows.
    :param symbols: those of the batch.
    """

    def __init__(self, context: RunContext, *, served: bool = False, symbols: Sequence[str] = ()) -> None:
        self.lives = KnownLives(context)
        self._context = context
        self._served = served
        self._several = len(symbols) >= SEVERAL
        self._suspects: dict[str, None] = {}
        self._lacking = Counter[str]()

    def check_unknown(self, request: Request, error: UnknownSymbol) -> None:
        """Check that no symbol that is reported as unknown has bars in the ledger.

        :raises ServerError: if one has.
        """
        first = request.sessions[0]
        reported = self.lives.living(error.symbols or request.symbols, first)
        known = last_bars(self.lives.coverage, reported, first)
        if known:
            named = some(f"{symbol} (last bar {last})" for symbol, last in known.items())
            raise ServerError(
                f"reported as unknown, but the ledger has bars: {named}; reported: {error.said}. {REMOVED}",
                provider=self._context.source,
                request=str(request),
                request_id=error.request_id,
            ) from error

    def is_uncertain(self, request: Request, now: datetime) -> bool:
        """Return true if a request's symbols that are reported as unknown may be so only for now.

        That is so until something of the batch was served, or a later response says the same.
        """
        if self._served or not self._several or not self._context.dataset.follows_trading:
            return False
        found = (self.lives.nearby(block.symbols, block.sessions, request.calendar, now) for block in request.blocks)
        return any((~near.checked).any() for near in found)

    def check_rows(self, request: Request, sessions: Sequence[date], table: pa.Table, now: datetime) -> dict[str, str]:
        """Check a response for symbols without a row that should have some.

        Each block of the request is judged by itself: the rows between its cells prove nothing of them.

        :param request: without the symbols that the provider refused.
        :param sessions: requested ones that the provider claims to have.
        :param table: the rows of the response.
        :return: symbol -> reason, for the symbols whose cells must not count as ``empty`` yet.
        :raises ServerError: if the response has no row at all although the ledger shows that several symbols or sessions have some.
        """
        self._served = self._served or len(table) > 0
        trading = self._context.dataset.follows_trading
        if not sessions or (len(table) and not trading):
            return {}
        absent = self._absent(request, sessions, table, now)
        if not absent:
            return {}
        whole = absent[0].near
        if request.parts:
            present = set(table["symbol"].unique().to_pylist())
            names = dict.fromkeys(symbol for one in absent for symbol in one.near.symbols if symbol not in present)
            whole = self.lives.nearby(tuple(names), sessions, request.calendar, now)
        if not len(table):
            self._check_nothing(request, whole, absent)
        if not trading:
            return {}
        found = dict.fromkeys((symbol for one in absent for symbol in self._doubted(one, nothing=not len(table))), DOUBTED)
        # With parts, the response has the whole span, and so should have the rows that are stored.
        return found | dict.fromkeys(whole.those(whole.stored > 0) if request.parts else (), CONTRADICTED)

    def _absent(self, request: Request, sessions: Sequence[date], table: pa.Table, now: datetime) -> list[_Absent]:
        """Return the symbols of each block that have no row in its cells.

        Symbols that the universe has removed are left out.
        """
        expected, found = set(sessions), []
        for block, symbols in without_rows(table.select(["symbol", "session"]), request):
            own = [session for session in block.sessions if session in expected]
            if own and (living := self.lives.living(symbols, own[0])):
                found.append(_Absent(own, self.lives.nearby(living, own, request.calendar, now)))
        return found

    def _check_nothing(self, request: Request, whole: Nearby, absent: Sequence[_Absent]) -> None:
        """Check a response without any row.

        :param whole: what is known of all symbols in the request's span.
        :raises ServerError: if the ledger shows that several symbols or sessions have some.
        """
        trading = self._context.dataset.follows_trading
        stored = whole.those(whole.stored > 0)
        if len(stored) >= SEVERAL:
            raise self._contradicted(request, stored, "in these sessions")
        if not trading:
            return
        if restated := whole.those(whole.stored >= SEVERAL):
            raise self._contradicted(request, restated, "in these sessions")
        spans = [one.near for one in absent if len(one.sessions) >= SEVERAL]
        around = dict.fromkeys(symbol for near in spans for symbol in near.those(near.living & near.after & ~near.checked))
        if around:
            raise self._contradicted(request, list(around), "before and after these sessions")
        expected = dict.fromkeys(symbol for one in absent for symbol in one.near.those(one.near.living))
        self._suspects |= expected
        if len(expected) >= SEVERAL or (len(self._suspects) >= SEVERAL and not self._served):
            raise self._contradicted(request, list(self._suspects), "until just before")

    def _doubted(self, absent: _Absent, *, nothing: bool) -> list[str]:
        """Return the symbols of a block whose cells must not count as ``empty`` yet.

        :param nothing: the whole response has no row.
        """
        near = absent.near
        doubted = near.living & ~near.checked
        unlisted = near.after & ~near.before & ~near.checked
        many = unlisted.sum() >= SEVERAL
        if nothing and many:
            doubted |= unlisted  # so many symbols were not listed on the same day
        # Several symbols, of which nothing is known, and nothing of the batch was served: the provider may have nothing for anybody now.
        unseen = ~near.before & ~near.after & (near.stored == 0) & ~near.checked & (self._several and not self._served)
        doubted |= unseen
        found = near.those(doubted)
        self._lacking.update(dict.fromkeys(found, len(absent.sessions)))
        # A single session is decided by later ones: it becomes a suspected gap.
        never = {*near.those(unseen)}
        return [symbol for symbol in found if self._lacking[symbol] > 1 or many or symbol in never]

    def hollow_sessions(self, request: Request, sessions: Sequence[date], table: pa.Table, now: datetime) -> list[date]:
        """Return the sessions without any row of a response that has rows of several symbols before and after.

        Those of which an earlier response had no row either are left out.

        :param sessions: requested ones that the provider claims to have.
        """
        days = {*dates_of(table["session"].unique())}
        first_day, last_day = min(days, default=date.max), max(days, default=date.min)
        inner = [session for session in sessions if session not in days and first_day < session < last_day]
        if not inner or len(request.symbols) < SEVERAL or not self._context.dataset.follows_trading:
            return []
        spans = {symbol: (min(own), max(own), len(own)) for symbol, own in cells_of(table).items()}
        around = {
            symbol: (first, last)
            for symbol, (first, last, count) in spans.items()
            if count >= (1 - OTHERS) * sum(first <= day <= last for day in days)
        }
        found = []
        for session in inner:
            across = [symbol for symbol, (first, last) in around.items() if first < session < last]
            if len(across) < SEVERAL:
                continue
            requested = {symbol for block in request.blocks if session in block.sessions for symbol in block.symbols}
            own = [symbol for symbol in across if symbol in requested] or sorted(requested)
            if not self.lives.nearby(own, [session], request.calendar, now).checked.any():
                found.append(session)
        return found

    def _contradicted(self, request: Request, symbols: Sequence[str], why: str) -> ServerError:
        return ServerError(
            f"the response has no row, but the ledger has rows {why} of {some(symbols)}; if the exchange was closed, name the date in "
            f"{calendar.EXTRA_CLOSURES}; if a symbol was halted, request a longer range. {REMOVED}",
            provider=self._context.source,
            request=str(request),
        )


REMOVED = "A symbol that is no longer listed needs its removed_date in the universe"

HOLLOW = "no row of any symbol, although several have rows before and after; empty if a later response says the same"
"""Reason of a ``pending`` cell of a session that a single response lacks."""

DOUBTED = "nothing in the requested sessions, by this response alone; empty if a later response says the same"
"""Reason of a ``pending`` cell of a symbol that a single response lacks."""


CONTRADICTED = f"nothing in the whole span, of which the ledger has rows. {REMOVED}"
"""Reason of a ``pending`` cell of a symbol of which a response lacks the stored rows, too."""

UNCERTAIN = "empty if a later response says the same, or one of other symbols had rows"
"""End of the reason of a ``pending`` cell of a symbol that was reported as unknown before anything was served."""


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
