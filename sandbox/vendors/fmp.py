"""Financial Modeling Prep's dialect: daily prices, single or in bulk, and company statements.

Two details are assumed, because the vendor does not document them. An empty bulk file has only its header. A bulk file ends with a
line end; the fault ``without_end`` removes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property
from typing import Any, ClassVar

from market_data.core.calendar import FIRST, NEW_YORK
from market_data.core.spelling import DASHED
from market_data.datasets.generated import Statement
from sandbox.market.bars import DailyBar
from sandbox.market.market import Market
from sandbox.market.recorded_prices import scattered
from sandbox.market.vendor_market import vendor_name
from sandbox.vendors import fmp_faults
from sandbox.vendors.base import BadParameterError, Vendor
from sandbox.vendors.messages import VendorRequest, VendorResponse
from sandbox.vendors.quota import RollingQuota

MOST_ACTIONS = 1000
MOST_ROWS = 5000  # per response; older rows are left out silently
DAY = timedelta(days=1)
LISTED_ABROAD = [f"{number:06d}.{exchange}" for exchange in ("SS", "SZ") for number in range(1, 151)]  # in every bulk file
QUARTERS = ("Q1", "Q2", "Q3", "Q4")
NAMES = {"income": "income-statement", "balance_sheet": "balance-sheet-statement", "cash_flow": "cash-flow-statement"}
FREE = frozenset({"AAPL", "AMZN", "GOOG", "IBM", "MSFT", "SPY"})  # the free plan has some symbols only
FREE_STATEMENTS = 5

# As recorded, unbalanced quotes and all.
PRICING = "your current subscription please visit our subscription page to upgrade your plan at https://financialmodelingprep.com/"
UPGRADE = "Please upgrade your plan or visit our documentation for more details at https://site.financialmodelingprep.com/"
UNKNOWN_KEY = (
    "Invalid API KEY. Feel free to create a Free API Key or visit "
    "https://site.financialmodelingprep.com/faqs?search=why-is-my-api-key-invalid for more information."
)
SYMBOL = f"Premium Query Parameter: 'Special Endpoint : This value set for 'symbol' is not available under {PRICING}"
PERIOD = f"Premium Query Parameter: 'Special Endpoint : This value set for 'period' is not available under {PRICING}"
LIMIT = (
    f"Premium Query Parameter: 'Special Parameters : The values for 'limit' must be between 0 and {FREE_STATEMENTS} based on your current "
    "subscription. Please visit our subscription page to upgrade your plan at https://financialmodelingprep.com/"
)
RESTRICTED = f"Restricted Endpoint: This endpoint is not available under {PRICING}"
LEGACY = (
    "Legacy Endpoint : Due to Legacy endpoints being no longer supported - This endpoint is only available for legacy users who have "
    "valid subscriptions prior August 31, 2025. Please visit our subscription page to upgrade your plan or contact us at "
    "https://site.financialmodelingprep.com/contact for further support."
)
OVER_QUOTA = f"Limit Reach . {UPGRADE}"

Found = Mapping[str, str]
Row = dict[str, Any]


class FMP(Vendor):
    """Financial Modeling Prep.

    :param plan: ``ultimate``; ``basic`` has some symbols, no bulk files, and the latest five statements.
    :param most_rows: limit of a response with prices.
    """

    name = "fmp"
    routes: ClassVar = {
        "/stable/historical-price-eod/{kind}": "eod",
        "/stable/eod-bulk": "eod_bulk",
        "/stable/splits": "splits",
        "/stable/dividends": "dividends",
        **{f"/stable/{name}": "statements" for name in NAMES.values()},
        **{f"/stable/{name}-bulk": "statements_bulk" for name in NAMES.values()},
        "/api/v3/{rest:path}": "legacy",
        "/api/v4/{rest:path}": "legacy",
    }
    words: ClassVar = {401: UNKNOWN_KEY, 402: RESTRICTED, 403: LEGACY, 404: "Not found", 429: OVER_QUOTA}
    no_key = UNKNOWN_KEY
    key_parameter = "apikey"
    faults = fmp_faults.KINDS

    def __init__(self, market: Market, quota: RollingQuota, *, plan: str = "ultimate", most_rows: int = MOST_ROWS) -> None:
        super().__init__(market, quota)
        self.plan, self.most_rows = plan, most_rows
        self._made: dict[tuple[str, int], list[Statement]] = {}

    def key(self, request: VendorRequest) -> str | None:
        return request.url_key or request.headers.get("apikey")

    def error(self, request: VendorRequest, status: int, message: str) -> VendorResponse:
        """JSON; 400 and 402 are plain text that calls itself JSON."""
        return VendorResponse(request, status, message if status in (400, 402) else {"Error Message": message})

    def subject(self, request: VendorRequest, _found: Found) -> tuple[str | None, str | None]:
        return request.query.get("symbol"), request.query.get("date")

    # prices

    def eod(self, request: VendorRequest, found: Found) -> VendorResponse:
        """Return bars of one symbol, newest first, both dates inclusive, at most ``most_rows``."""
        rows_of = {"full": _adjusted, "non-split-adjusted": _as_traded, "dividend-adjusted": _dividend_adjusted}
        if found["kind"] not in rows_of:
            return self.unknown_path(request)
        symbol = self._symbol(request)
        start, last = _day(request, "from") or FIRST, _day(request, "to") or date.max - DAY
        bars = self.market.range(self._known.get(symbol, ""), start, last + DAY)[::-1][: self.most_rows]
        rows = [rows_of[found["kind"]](symbol, bar) for bar in bars]
        return VendorResponse(request, 200, rows, source=self.market.source(bars))

    def eod_bulk(self, request: VendorRequest, _found: Found) -> VendorResponse:
        """Return a CSV file with one day's bars of all symbols on all exchanges."""
        self._needs_more_than_basic()
        day = _needed(request, "date")
        bars = self.market.session(day)
        rows = [
            [wire(bar.symbol), f"{day}", bar.open, bar.low, bar.high, bar.close, _adjusted_close(bar), _number(bar.volume)]
            for bar in bars
        ]
        if bars:
            rows += [[symbol, f"{day}", 10.5, 10.01, 11.02, 10.75, 10.75, 1_234_567] for symbol in LISTED_ABROAD]
        return _csv(request, fmp_faults.EOD_COLUMNS, rows, self.market.source(bars))

    # actions

    def splits(self, request: VendorRequest, _found: Found) -> VendorResponse:
        """Return all splits of one symbol, newest first."""
        symbol = self._symbol(request)
        found = self.market.splits(FIRST, date.max - DAY, [self._known.get(symbol, "")])
        rows = [
            {"symbol": symbol, "date": one.ex_date.isoformat(), "numerator": one.split_to, "denominator": one.split_from}
            for one in found[::-1]
        ]
        return VendorResponse(request, 200, rows[: self._limit(request)], source="generated")

    def dividends(self, request: VendorRequest, _found: Found) -> VendorResponse:
        """Return all dividends of one symbol, newest first."""
        symbol = self._symbol(request)
        found = self.market.dividends(FIRST, date.max - DAY, [self._known.get(symbol, "")])
        rows = [
            {
                "symbol": symbol,
                "date": one.ex_date.isoformat(),
                "recordDate": one.record_date.isoformat(),
                "paymentDate": one.pay_date.isoformat(),
                "declarationDate": one.declaration_date.isoformat(),
                "adjDividend": one.amount,
                "dividend": one.amount,
                "yield": 1.0,
                "frequency": "Special" if one.kind == "SC" else "Quarterly",
            }
            for one in found[::-1]
        ]
        return VendorResponse(request, 200, rows[: self._limit(request)], source="generated")

    @staticmethod
    def _limit(request: VendorRequest) -> int:
        limit = request.query.get("limit", "100")
        if not limit.isdecimal():
            raise BadParameterError("Query Error: Invalid or missing query parameter - limit")
        return min(int(limit), MOST_ACTIONS)

    # statements

    def statements(self, request: VendorRequest, _found: Found) -> VendorResponse:
        """Return the latest statements of one symbol, newest first."""
        symbol, name = self._symbol(request), request.path.removeprefix("/stable/")
        period, limit = request.query.get("period", "annual"), request.query.get("limit", "5")
        periods = {"annual": ("FY",), "quarter": QUARTERS}.get(period, (period,))
        if not limit.isdecimal():
            raise BadParameterError("Query Error: Invalid or missing query parameter - limit")
        if self.plan == "basic" and int(limit) > FREE_STATEMENTS:
            raise BadParameterError(LIMIT, 402)
        this_year = self.market.now().year
        years = range(max(FIRST.year, this_year - int(limit) // (1 if period == "annual" else 4) - 1), this_year + 2)
        made = [one for year in years for one in self._statements(self._known.get(symbol, ""), year)]
        some = [one for one in made if one.period in periods and NAMES[one.statement] == name][::-1][: int(limit)]
        return VendorResponse(request, 200, [_statement(one) for one in some], source="generated")

    def statements_bulk(self, request: VendorRequest, _found: Found) -> VendorResponse:
        """Return a CSV file with the statements of all symbols for one period of one fiscal year."""
        self._needs_more_than_basic()
        name = request.path.removeprefix("/stable/").removesuffix("-bulk")
        year, period = request.query.get("year", ""), request.query.get("period", "")
        if not year.isdecimal() or period not in ("FY", *QUARTERS):
            raise BadParameterError(f"Query Error: Invalid or missing query parameter - {'period' if year.isdecimal() else 'year'}")
        made = [one for symbol in self.market.symbols for one in self._statements(symbol, int(year))]
        rows = [_statement(one) for one in made if one.period == period and NAMES[one.statement] == name]
        abroad = [{**row, "symbol": symbol, "reportedCurrency": "CNY"} for symbol, row in zip(LISTED_ABROAD, rows, strict=False)]
        columns = list(rows[0]) if rows else fmp_faults.STATEMENT_COLUMNS
        return _csv(request, columns, [list(row.values()) for row in (*rows, *abroad)], "generated")

    def legacy(self, request: VendorRequest, _found: Found) -> VendorResponse:
        return self.error(request, 403, LEGACY)

    # what the account may see

    @cached_property
    def _known(self) -> Mapping[str, str]:
        """The vendor's name of a symbol -> the symbol."""
        return {wire(symbol): symbol for symbol in self.market.symbols}

    def _symbol(self, request: VendorRequest) -> str:
        symbol = request.query.get("symbol")
        if not symbol:
            raise BadParameterError("Query Error: Invalid or missing query parameter - symbol")
        if self.plan == "basic" and symbol not in FREE:
            raise BadParameterError(SYMBOL, 402)
        return symbol

    def _needs_more_than_basic(self) -> None:
        if self.plan == "basic":
            raise BadParameterError(RESTRICTED, 402)

    def _statements(self, symbol: str, year: int) -> list[Statement]:
        """Those of a fiscal year, ascending. They are kept: a year takes some milliseconds to make."""
        if (symbol, year) not in self._made:
            # The year's first quarter ends in June of the year before at the earliest; its last is filed in March at the latest.
            found = self.market.statements(symbol, date(year - 1, 6, 1), date(year + 1, 4, 1))
            self._made[symbol, year] = [one for one in found if one.fiscal_year == year]
        return self._made[symbol, year]


VENDOR = FMP


def wire(symbol: str) -> str:
    """Return the vendor's spelling of a symbol: a dash before the suffix of a stock.

    L and F are exchanges abroad.
    """
    return symbol if symbol.endswith((".L", ".F")) else vendor_name(symbol, DASHED)


def _as_traded(symbol: str, bar: DailyBar) -> Row:
    """Called adjusted, and is not."""
    prices = {"adjOpen": bar.open, "adjHigh": bar.high, "adjLow": bar.low, "adjClose": bar.close}
    return {"symbol": symbol, "date": bar.session.isoformat(), **prices, "volume": _number(bar.volume)}


def _dividend_adjusted(symbol: str, bar: DailyBar) -> Row:
    """Adjusted for splits and dividends, with the same names."""
    return _as_traded(symbol, bar.adjusted)


def _adjusted(symbol: str, bar: DailyBar) -> Row:
    """``vwap`` is the mean of the four prices, ``change`` that since the open."""
    bar = bar.adjusted
    prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close}
    row = {"symbol": symbol, "date": bar.session.isoformat(), **prices, "volume": _number(bar.volume)}
    if None in prices.values():
        return row
    change = bar.close - bar.open
    return {**row, "change": round(change, 4), "changePercent": round(100 * change / bar.open, 8), "vwap": sum(prices.values()) / 4}


def _adjusted_close(bar: DailyBar) -> float | None:
    return None if bar.close is None else round(bar.close * bar.ratio, 4)


def _statement(statement: Statement) -> Row:
    accepted = statement.accepted.astimezone(NEW_YORK)
    return {
        "date": statement.period_end.isoformat(),
        "symbol": wire(statement.symbol),
        "reportedCurrency": "USD",
        "cik": f"{int.from_bytes(scattered(statement.symbol)[:3]):010d}",
        "filingDate": statement.filing_date.isoformat(),
        "acceptedDate": f"{accepted:%Y-%m-%d %H:%M:%S}",
        "fiscalYear": f"{statement.fiscal_year}",
        "period": statement.period,
        **{item: _number(value) for item, value in statement.values.items()},
    }


def _number(value: float | None) -> float | int | None:
    return int(value) if value is not None and value == int(value) else value


def _csv(request: VendorRequest, columns: Sequence[str], rows: Collection[Sequence[Any]], source: str) -> VendorResponse:
    """Text in quotes, numbers without; in no particular order, but always in the same."""

    def lines() -> Iterator[str]:
        yield ",".join(f'"{column}"' for column in columns)
        for row in sorted(rows, key=lambda row: scattered(f"{row[:2]}")):
            yield ",".join(f'"{value}"' if isinstance(value, str) else "" if value is None else f"{value}" for value in row)

    text = "".join(f"{line}\n" for line in lines())
    return VendorResponse(request, 200, text, {"Content-Type": "text/csv"}, source=source)


def _day(request: VendorRequest, name: str) -> date | None:
    text = request.query.get(name)
    try:
        return min(date.fromisoformat(text), date.max - DAY) if text else None
    except ValueError:
        raise BadParameterError(f"Query Error: Invalid or missing query parameter - {name}") from None


def _needed(request: VendorRequest, name: str) -> date:
    day = _day(request, name)
    if day is None:
        raise BadParameterError(f"Query Error: Invalid or missing query parameter - {name}")
    return day
