"""The sample gateway: its prices, contracts, pacing rules and faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from market_data.core.calendar import NEW_YORK
from market_data.core.capabilities import Window
from sandbox.faults import Fault, Match
from sandbox.ib_gateway import history, requests
from sandbox.ib_gateway.calls import GatewayCall
from sandbox.ib_gateway.contracts import INDICES, Catalogue, Listing, details
from sandbox.ib_gateway.faults import KINDS, GatewayResponse
from sandbox.ib_gateway.link import LinkListener
from sandbox.ib_gateway.pacing import Pacing, Rules
from sandbox.ib_gateway.prices import Prices
from sandbox.ib_gateway.requests import GatewayRequest
from sandbox.market.recorded_prices import SamplePrices, universe_symbols, utc_now
from sandbox.sample_server import Listener, SampleServer

IN_SHARES = 164
"""The first version of the protocol that counts shares."""
LOT = 100


class SampleGateway(SampleServer[GatewayCall]):
    """The sample gateway.

    :param port: 0 takes a free one.
    :param rules: what it enforces with error 162.
    :param version: the newest version of the protocol that it speaks, 157 to 178.
    :param now: the present moment, with a time zone.
    :param clock: seconds, never going back; what the rules are measured with.
    """

    def __init__(
        self,
        port: int = 0,
        rules: Rules = Rules(),  # noqa: B008 - it is frozen
        seed: int = 0,
        *,
        symbols: Iterable[str] | None = None,
        call_log: str | Path | None = None,
        version: int = requests.NEWEST,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # The universes name futures and indices too; ES is also a stock.
        known = universe_symbols() - INDICES.keys() if symbols is None else symbols
        super().__init__(port, SamplePrices(seed, known, now), seed, call_log, now, clock)
        self.version = version
        self.in_lots = version < IN_SHARES
        """Whether the volumes of stocks are counted in lots of 100 shares: old gateways do, later ones by a setting."""
        self.contract_prices = Prices(self.market)
        self.catalogue = Catalogue(self.market.symbols)
        self._pacing = Pacing(rules)

    def _listen(self) -> Listener:
        return LinkListener(self)

    def break_links(self) -> None:
        """End every connection, as the real one does once a day."""
        if isinstance(self._listener, LinkListener):
            self._listener.break_links()

    @property
    def clients(self) -> frozenset[int]:
        """The client ids in use."""
        return frozenset(self._listener.clients) if isinstance(self._listener, LinkListener) else frozenset()

    def forget(self) -> None:
        """Reset to the initial state: no calls, faults, changes or rules. Connections stay open."""
        super().forget()
        self.rules = Rules()
        self._pacing.forget()
        self.in_lots = self.version < IN_SHARES
        self.catalogue.abroad.clear()

    @property
    def rules(self) -> Rules:
        """Set them to change them. Calls accepted before keep counting."""
        return self._pacing.rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._pacing.rules = rules

    @property
    def limits(self) -> tuple[Window, ...]:
        """The windows of the rules for all requests together."""
        return self.rules.windows

    @limits.setter
    def limits(self, limits: Sequence[Window]) -> None:
        self.rules = Rules(tuple(limits), self.rules.per_contract, self.rules.identical)

    def fault(self, kind: str, *, match: Match | None = None, times: int | None = 1, **options: Any) -> None:
        """Inject a fault: see `sandbox.faults.Fault`. It happens to calls that keep the rules."""
        self.faults.add(Fault(KINDS, kind, match, times, options))

    def respond(self, request: GatewayRequest) -> GatewayResponse:
        """Return the response to a request, and log the request."""
        with self._arrivals:
            arrived, moment = time.time(), self._clock()
            accepted = request.kind != "history" or self._pacing.admit(request, moment)
        fault = None
        if not accepted:
            response = GatewayResponse(request, error=(history.NO_DATA, history.PACING))
        else:
            response, fault = self.faults.apply(self._due(request))
        self.log.add(
            GatewayCall.of(
                request,
                time=arrived,
                monotonic=moment,
                status=response.status,
                accepted=accepted,
                rows=len(response.rows),
                fault=fault,
            )
        )
        return response

    def _due(self, request: GatewayRequest) -> GatewayResponse:
        now = self.now()
        found = self.catalogue.find(request.contract, now.astimezone(NEW_YORK).date())
        try:
            return self._details(request, found) if request.kind == "details" else self._history(request, found, now)
        except history.Refused as refusal:
            return GatewayResponse(request, error=(refusal.code, refusal.text))

    def _details(self, request: GatewayRequest, found: Sequence[Listing]) -> GatewayResponse:
        if not found:
            raise history.Refused(history.UNKNOWN, history.NO_DEFINITION)
        return GatewayResponse(request, rows=tuple(tuple(details(listing, self.version)) for listing in found))

    def _history(self, request: GatewayRequest, found: Sequence[Listing], now: datetime) -> GatewayResponse:
        listing = history.the_only(found, request)
        history.check(request, listing)
        span = history.span(request, now)
        bars = history.bars(request, listing, self.contract_prices, span)
        if self.in_lots and listing.sec_type == "STK" and request.what == "TRADES":
            bars = [bar._replace(volume=bar.volume // LOT) for bar in bars]
        rows = tuple(map(tuple, history.rows(request, listing, bars)))
        begins, ends = (f"{moment:%Y%m%d  %H:%M:%S}" for moment in (span.start, span.end))
        return GatewayResponse(request, rows, begins, ends, len(rows))
