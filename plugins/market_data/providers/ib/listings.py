"""The listing of a stock that is meant, where several fit, and the unit of its volumes. No I/O.

**Listings.** A symbol and SMART can fit listings in several countries that trade in US dollars (META, CSCO, GLD). The gateway then calls
the contract ambiguous, and its details tell the primary exchanges. A universe may name the one that is meant.

**Volumes.** Gateways before protocol version 164 count the volumes of US stocks in lots of 100. Later ones count shares, with one
exception: "Send market data in lots for US stocks for dual-mode API clients" is checked in their settings. No message tells the setting.
Source: https://ibkrcampus.com/campus/ibkr-api-page/twsapi-doc/, "Historical Volume Scaling". It can be measured: a trade of SPY is of 50
to 500 shares on average, so of 0.5 to 5 lots. Futures are counted in contracts, and quotes have no volume.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ib_async import BarData, Contract, ContractDetails

from market_data.core.errors import BadRequest, PerCellError, TerminalError
from market_data.core.messages import shown

US_EXCHANGES = frozenset({"NASDAQ", "ISLAND", "NYSE", "ARCA", "AMEX", "BATS", "IEX", "CBOE", "NYSENAT", "PINK", "TXSE", "LTSE"})
"""Primary exchanges of US stocks, as the vendor spells them."""

_OTHER_NAMES = {"XNAS": "NASDAQ", "ISLAND": "NASDAQ", "XNYS": "NYSE", "ARCX": "ARCA", "XASE": "AMEX", "IEXG": "IEX"}
"""Market identifier codes (ISO 10383) and an old name -> the vendor's name."""

UNITS = {"auto": None, "shares": 1, "lots": 100}
"""Settings for the unit of volumes of US stocks -> shares; None: it is measured."""
LOT = 100
"""Shares."""
IN_SHARES = 164
"""The first version of the protocol that counts shares."""
CERTAIN = (1.0, 50.0)
"""Mean volume of a trade: below the first it is in lots for sure, as no trade is of less than one share; from the second on, in shares."""
BETWEEN = 15.0
"""Mean volume of a trade of SPY: below in lots, from this on in shares."""
IN_LOTS = "the gateway counts volumes of US stocks in lots of 100; they are stored in shares"
UNMEASURED = (
    "the unit of volumes of US stocks cannot be measured by SPY, so it is by each stock's own trades: "
    "set stock_volumes in the connection's extra to shares or lots"
)


def listing_of(fields: Sequence[str], version: int) -> tuple[int, ContractDetails]:
    """Return the number of the request, and what a message with details tells of the listing.

    Use it for a message with further fields that cannot be read. An id that cannot be read is 0: the primary exchange tells the listing,
    too.

    :param fields: of the message. ``version``: of the protocol.
    :raises ValueError, IndexError: if the message is too short.
    """
    if version < IN_SHARES:
        fields = [fields[0], *fields[2:]]
    contract = Contract(
        symbol=fields[2],
        secType=fields[3],
        exchange=fields[7],
        currency=fields[8],
        localSymbol=fields[9],
        tradingClass=fields[11],
        conId=int(fields[12]) if fields[12].isdecimal() else 0,
        primaryExchange=fields[20 if version >= IN_SHARES else 21],
    )
    return int(fields[1]), ContractDetails(contract=contract, longName=fields[19 if version >= IN_SHARES else 20])


def primary_listing(details: Sequence[ContractDetails], primary: str = "") -> Contract:
    """Return the contract of the only listing with a primary exchange in the US, or with ``primary``.

    :raises BadRequest: if there are several or none; names the exchanges.
    """
    stocks = [one.contract for one in details if one.contract is not None and one.contract.secType == "STK"]
    found = {contract.conId or contract.primaryExchange: contract for contract in stocks}
    places = {_vendors_name(primary)} if primary else {*map(_vendors_name, US_EXCHANGES)}
    listed = [contract for contract in found.values() if _vendors_name(contract.primaryExchange) in places]
    if len(listed) != 1:
        exchanges = ", ".join(sorted({contract.primaryExchange or "none" for contract in found.values()}))
        wanted = f"the primary exchange {shown(primary)} of the universe" if primary else "a primary exchange in the US"
        do = "" if primary else "; name one as primary_exchange in the universe"
        raise BadRequest(f"{len(listed)} of its listings have {wanted}; their primary exchanges: {exchanges}{do}")
    (contract,) = listed
    contract.exchange = "SMART"
    return contract


def _vendors_name(exchange: str) -> str:
    return _OTHER_NAMES.get(exchange.upper(), exchange.upper())


def shares_per_trade(bars: Sequence[BarData]) -> float | None:
    """Return the mean volume of a trade, in whatever unit the volumes are; None without trades."""
    traded = [bar for bar in bars if bar.barCount > 0 and 0 < bar.volume < float("inf")]
    return sum(bar.volume for bar in traded) / sum(bar.barCount for bar in traded) if traded else None


class VolumeUnit:
    """The unit in which a gateway counts the volumes of US stocks.

    :param setting: one of `UNITS`.
    """

    def __init__(self, setting: str) -> None:
        self._known, self._open = UNITS.get(setting), True
        self.found = ""
        """What was found, in words, where the user should know it."""

    def unit(self, bars: Sequence[BarData], version: int, of_spy: Callable[[], Sequence[BarData]]) -> int:
        """Return the shares that a volume of 1 means.

        :param bars: a stock's trades.
        :param version: of the gateway's protocol.
        :param of_spy: returns bars of SPY; it is called at most once, and only if ``bars`` leave the unit open.
        """
        mean = shares_per_trade(bars)
        if self._known is None and (version < IN_SHARES or (mean is not None and mean < CERTAIN[0])):
            self._known, self.found = LOT, IN_LOTS
        if self._known is not None or mean is None or mean >= CERTAIN[1]:
            return self._known or 1
        if self._open:
            self._open = False
            self._measure(of_spy)
        return self._known or _unit_by(mean)

    def _measure(self, of_spy: Callable[[], Sequence[BarData]]) -> None:
        try:
            mean = shares_per_trade(of_spy())
        except (PerCellError, TerminalError):
            mean = None
        self._known = None if mean is None else _unit_by(mean)
        self.found = {None: UNMEASURED, LOT: IN_LOTS}.get(self._known, "")


def _unit_by(mean: float) -> int:
    return LOT if mean < BETWEEN else 1
