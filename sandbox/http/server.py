"""The HTTP server."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from market_data.core.capabilities import Window
from sandbox.faults import Match
from sandbox.http.application import application
from sandbox.http.calls import Call
from sandbox.http.faults import VendorFault
from sandbox.http.listener import UvicornListener
from sandbox.market.edits import PRICES, Change
from sandbox.market.file_prices import FilePrices
from sandbox.market.recorded_prices import SamplePrices, scattered, universe_symbols, utc_now
from sandbox.sample_server import Listener, SampleServer
from sandbox.vendors import VENDORS, Vendor
from sandbox.vendors.messages import VendorRequest, VendorResponse
from sandbox.vendors.quota import RollingQuota


class SampleApi(SampleServer[Call]):
    """The sample API.

    :param port: 0 takes a free one; a restart takes the same again.
    :param data: a Parquet file to serve instead of recorded and generated prices.
    :param limits: the quota of each vendor's account, all windows at once; empty means unlimited.
    :param api_key: the only key it knows, whatever the vendor.
    :param seed: of the generated prices.
    :param symbols: those it has generated prices for, besides its own; by default those of ``include/universes``.
    :param call_log: file that calls are appended to.
    :param vendor: a name in `VENDORS`: who is served at the root. All are served under their names too, such as ``/polygon``.
    :param prefix: path before all others, such as ``/polygon``, as behind a gateway. Links in responses do not have it.
    :param now: the present moment, with a time zone: later sessions are not there yet.
    :param clock: seconds, never going back; what the quota is measured with.
    :param options: those of that vendor.
    :raises ValueError: if ``data`` lacks a column, or for an unknown vendor.
    """

    def __init__(
        self,
        port: int = 0,
        data: str | Path | None = None,
        limits: Sequence[Window] = (),
        api_key: str = "sample",
        seed: int = 0,
        *,
        symbols: Iterable[str] | None = None,
        call_log: str | Path | None = None,
        vendor: str = "polygon",
        prefix: str = "",
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        if vendor not in VENDORS:
            raise ValueError(f"vendor is {vendor!r}; allowed: {', '.join(VENDORS)}")
        generated = universe_symbols() if symbols is None else symbols
        super().__init__(port, FilePrices(Path(data)) if data else SamplePrices(seed, generated, now), seed, call_log, now, clock)
        self.prefix = prefix
        self.vendors: dict[str, Vendor] = {
            name: make(self.market, RollingQuota(limits, clock), **(options if name == vendor else {}))
            for name, make in VENDORS.items()
        }
        self.vendor = self.vendors[vendor]
        self._api_key = api_key

    @property
    def url(self) -> str:
        return f"http://{self.address}{self.prefix}"

    def _listen(self) -> Listener:
        return UvicornListener(application(self), self.port)

    def forget(self) -> None:
        """Reset to the initial state: no calls, faults, changes or quota."""
        super().forget()
        self.limits = ()
        for vendor in self.vendors.values():
            vendor.quota.forget()

    @property
    def limits(self) -> tuple[Window, ...]:
        """The windows of each account's quota; set them to change it. Calls accepted before keep counting."""
        return self.vendor.quota.limits

    @limits.setter
    def limits(self, limits: Iterable[Window]) -> None:
        windows = tuple(limits)
        for vendor in self.vendors.values():
            vendor.quota.limits = windows

    def fault(
        self, kind: str, *, match: Match | None = None, times: int | None = 1, vendor: str | None = None, **options: Any
    ) -> None:
        """Inject a fault (`sandbox.faults.Fault`). It happens to calls with a valid key within the quota.

        :param vendor: the vendor whose responses get it; None: the one at the root.
        """
        if vendor is not None and vendor not in self.vendors:
            raise ValueError(f"vendor is {vendor!r}; allowed: {', '.join(self.vendors)}")
        self.faults.add(VendorFault.of(self.vendors[vendor] if vendor else self.vendor, kind, match, times, options))

    def alter(
        self,
        symbol: str | None,
        session: date,
        *,
        multiply: float = 1.0,
        fields: Sequence[str] = PRICES,
        **replace: float | None,
    ) -> None:
        """Change prices from now on, for example ``alter("AAPL", date(2012, 1, 3), close=60.0)``.

        See `sandbox.market.edits.Change`.
        """
        self.edits.alter(session, Change(symbol, multiply, tuple(fields), replace))

    def hide(self, session: date, symbols: Collection[str] | None = None, *, fraction: float | None = None) -> None:
        """Leave ``symbols``, or a ``fraction`` of those it has (always the same ones), out of a session.

        :raises ValueError: unless exactly one of the two is given.
        """
        if (symbols is None) == (fraction is None):
            raise ValueError("give either symbols or fraction")
        if symbols is None:
            present = sorted((bar.symbol for bar in self.prices.session(session)), key=scattered)
            symbols = present[: round(len(present) * (fraction or 0))]
        self.edits.hide(session, symbols)

    def respond(self, request: VendorRequest) -> VendorResponse:
        """Return the response to a data call, and log the call."""
        vendor = request.vendor
        with self._arrivals:
            arrived, moment = time.time(), self._clock()
            refused = self._refusal(request, moment)
        endpoint, found = request.endpoint, request.found
        fault = None
        if refused is not None:
            response = refused
        elif endpoint == "unknown":
            response = vendor.unknown_path(request)
        else:
            response, fault = self.faults.apply(vendor.respond(endpoint, request, found))
        ticker, day = vendor.subject(request, found)
        self.log.add(
            Call(
                time=arrived,
                monotonic=moment,
                target=request.target,
                endpoint=endpoint,
                ticker=ticker,
                date=day,
                status=response.status,
                accepted=refused is None,
                source=response.source,
                fault=fault,
                request_id=response.request_id,
                client_request_id=request.headers.get("x-request-id"),
                key_in_url=request.url_key is not None,
                vendor=vendor.name,
                method=request.method,
            )
        )
        return response

    def _refusal(self, request: VendorRequest, moment: float) -> VendorResponse | None:
        vendor, key = request.vendor, request.vendor.key(request)
        if key != self._api_key:
            return vendor.unauthorized(request, key)
        return None if vendor.quota.admit(moment) else vendor.throttled(request)
