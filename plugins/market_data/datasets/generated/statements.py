"""Generate income statements, balance sheets and cash flows per quarter and year.

The field names are those of Financial Modeling Prep. Dollars are whole numbers, and they add up. Gross profit is revenue less its cost;
assets equal liabilities and equity. Cash at the end is cash at the beginning plus the change. A year is the sum of its quarters. Seven
of ten symbols end their year in December.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_data.core import calendar
from market_data.datasets.generated.numbers import Floats, Ints, Keys, uniform

STATEMENTS = ("income", "balance_sheet", "cash_flow")
QUARTERS, ANNUAL = ("Q1", "Q2", "Q3", "Q4"), "FY"

_SIZE, _GROWTH, _SEASON, _LUCK, _SHIFT, _FILED, _HOUR, _MIX, _NOISE = range(48, 57)
_ONCE = np.zeros(1, np.int64)  # counter of numbers that a symbol has only one of


class Statement(NamedTuple):
    """One statement of one period.

    :param statement: one of ``STATEMENTS``. ``period``: Q1 .. Q4, FY; Q4 and FY come in one filing.
    :param accepted: the moment of the filing, UTC; ``filing_date`` is its New York date, about 35 days after ``period_end``.
    :param values: item -> US dollars (per share: ``eps``, ``epsDiluted``; shares: ``weightedAverageShsOut``).
    """

    symbol: str
    statement: str
    period: str
    fiscal_year: int
    period_end: date
    filing_date: date
    accepted: datetime
    values: Mapping[str, float]


@lru_cache(maxsize=16)  # clients request each kind and period of a symbol in turn
def statements(symbol: str, key: int, start: date, end: date) -> tuple[Statement, ...]:
    """Return the statements filed from ``start`` (inclusive) to ``end`` (exclusive).

    Sorted by filing date, Q4 before FY.

    :param key: `numbers.key` of the symbol.
    """
    keys = np.array([key], np.uint64)
    last = end - timedelta(days=1)
    quarters = np.arange(start.year * 4 - 4, last.year * 4 + 3)  # year * 4 + 0..3; the first three are for the first year's sum
    ahead = max(int(10 * uniform(keys, _ONCE, _SHIFT)[0]) - 6, 0)  # quarters by which the fiscal year is
    sheets = _sheets(keys, quarters)
    found = []
    for place in range(3, len(quarters)):
        fiscal_year, number = divmod(int(quarters[place]) + ahead, 4)
        ended = _quarter_end(int(quarters[place]))
        accepted = _accepted(keys, quarters[place : place + 1], ended)
        filed = accepted.astimezone(calendar.NEW_YORK).date()
        spans = {QUARTERS[number]: slice(place, place + 1), **({ANNUAL: slice(place - 3, place + 1)} if number == 3 else {})}
        for period, span in spans.items() if start <= filed < end else ():
            values = {name: {item: column[span] for item, column in sheet.items()} for name, sheet in sheets.items()}
            totals = {"income": _income_of(values["income"]), "balance_sheet": _last(values["balance_sheet"]),
                      "cash_flow": _cash_flow_of(values["cash_flow"])}  # fmt: skip
            found += [Statement(symbol, name, period, fiscal_year, ended, filed, accepted, totals[name]) for name in STATEMENTS]
    return tuple(found)


class _Company:
    """A symbol's figures, one per quarter, each about the same share of its revenue."""

    def __init__(self, keys: Keys, quarters: Ints) -> None:
        self.keys, self.quarters, self.items = keys, quarters, 0
        self.size: Floats = np.exp(17 + 6 * uniform(keys, _ONCE, _SIZE))  # dollars a quarter, in 2000
        growth = 0.02 * uniform(keys, _ONCE, _GROWTH)
        self.level: Floats = self.size * np.exp(growth * (quarters - 8000))
        season = 1 + 0.2 * (uniform(keys, quarters % 4, _SEASON) - 0.5)
        self.revenue = _whole(self.level * season * (1 + 0.06 * (uniform(keys, quarters, _LUCK) - 0.5)))

    def part(self, low: float, high: float, of: Floats | Ints | None = None) -> Ints:
        """Return a share between ``low`` and ``high`` of ``of`` (default: the level), in whole dollars."""
        self.items += 1
        usual = low + (high - low) * uniform(self.keys, _ONCE + self.items, _MIX)
        noise = 1 + 0.05 * (uniform(self.keys, self.quarters * 64 + self.items, _NOISE) - 0.5)
        return _whole((self.level if of is None else of) * usual * noise)


def _sheets(keys: Keys, quarters: Ints) -> dict[str, dict[str, Ints]]:
    """Return the items of the three statements, one value per quarter."""
    company = _Company(keys, np.append(quarters[:1] - 1, quarters))  # one more: what the first begins with
    income = _income(company)
    balance = _balance(company)
    cash_flow = _cash_flow(company, income, balance["cashAndCashEquivalents"])
    sheets = {"income": income, "balance_sheet": balance, "cash_flow": cash_flow}
    return {name: {item: column[1:] for item, column in sheet.items()} for name, sheet in sheets.items()}


def _income(company: _Company) -> dict[str, Ints]:
    revenue, part = company.revenue, company.part
    cost = part(0.3, 0.7, revenue)
    research, selling, other = part(0.0, 0.1, revenue), part(0.05, 0.15, revenue), part(0.0, 0.01, revenue)
    operating = revenue - cost - research - selling - other
    received, paid, depreciation = part(0.001, 0.01), part(0.001, 0.03), part(0.02, 0.06)
    before_tax = operating + received - paid
    tax = _whole(before_tax * 0.21)
    return {
        "revenue": revenue,
        "costOfRevenue": cost,
        "grossProfit": revenue - cost,
        "researchAndDevelopmentExpenses": research,
        "sellingGeneralAndAdministrativeExpenses": selling,
        "otherExpenses": other,
        "operatingExpenses": research + selling + other,
        "costAndExpenses": cost + research + selling + other,
        "interestIncome": received,
        "interestExpense": paid,
        "depreciationAndAmortization": depreciation,
        "ebitda": operating + received + depreciation,
        "operatingIncome": operating,
        "totalOtherIncomeExpensesNet": received - paid,
        "incomeBeforeTax": before_tax,
        "incomeTaxExpense": tax,
        "netIncome": before_tax - tax,
        "weightedAverageShsOut": _whole(0.02 * company.size).repeat(len(revenue)),
    }


def _balance(company: _Company) -> dict[str, Ints]:
    part = company.part
    cash, short, receivables, inventory, other = part(0.3, 1), part(0, 0.5), part(0.2, 0.8), part(0, 0.5), part(0.05, 0.3)
    current = cash + short + receivables + inventory + other
    plant, goodwill, remaining = part(0.5, 3), part(0, 2), part(0.1, 0.6)
    assets = current + plant + goodwill + remaining
    payables, borrowed, due = part(0.1, 0.12, assets), part(0.02, 0.05, assets), part(0.04, 0.1, assets)
    debt, later = part(0.1, 0.25, assets), part(0.02, 0.1, assets)
    liabilities = payables + borrowed + due + debt + later
    stock = part(0.05, 0.15, assets)
    equity = assets - liabilities
    return {
        "cashAndCashEquivalents": cash,
        "shortTermInvestments": short,
        "netReceivables": receivables,
        "inventory": inventory,
        "otherCurrentAssets": other,
        "totalCurrentAssets": current,
        "propertyPlantEquipmentNet": plant,
        "goodwillAndIntangibleAssets": goodwill,
        "otherNonCurrentAssets": remaining,
        "totalNonCurrentAssets": assets - current,
        "totalAssets": assets,
        "accountPayables": payables,
        "shortTermDebt": borrowed,
        "otherCurrentLiabilities": due,
        "totalCurrentLiabilities": payables + borrowed + due,
        "longTermDebt": debt,
        "totalNonCurrentLiabilities": debt + later,
        "totalLiabilities": liabilities,
        "commonStock": stock,
        "retainedEarnings": equity - stock,
        "totalStockholdersEquity": equity,
        "totalLiabilitiesAndTotalEquity": liabilities + equity,
    }


def _cash_flow(company: _Company, income: Mapping[str, Ints], cash: Ints) -> dict[str, Ints]:
    part = company.part
    before = np.append(cash[:1], cash[:-1])
    paid_in_stock, working = part(0.005, 0.03), part(-0.02, 0.02)
    operating = income["netIncome"] + income["depreciationAndAmortization"] + paid_in_stock + working
    capital, other, repurchased, dividends = -part(0.02, 0.1), part(-0.05, 0.02), -part(0, 0.05), -part(0, 0.03)
    financing = cash - before - operating - capital - other
    return {
        "netIncome": income["netIncome"],
        "depreciationAndAmortization": income["depreciationAndAmortization"],
        "stockBasedCompensation": paid_in_stock,
        "changeInWorkingCapital": working,
        "netCashProvidedByOperatingActivities": operating,
        "investmentsInPropertyPlantAndEquipment": capital,
        "otherInvestingActivities": other,
        "netCashProvidedByInvestingActivities": capital + other,
        "commonStockRepurchased": repurchased,
        "netDividendsPaid": dividends,
        "otherFinancingActivities": financing - repurchased - dividends,
        "netCashProvidedByFinancingActivities": financing,
        "netChangeInCash": cash - before,
        "cashAtEndOfPeriod": cash,
        "cashAtBeginningOfPeriod": before,
        "capitalExpenditure": capital,
        "freeCashFlow": operating + capital,
    }


def _income_of(quarters: Mapping[str, Ints]) -> dict[str, float]:
    """Return the income statement of a quarter, or of the year that four quarters make up."""
    totals = {item: float(column.sum()) for item, column in quarters.items()}
    totals["weightedAverageShsOut"] = float(quarters["weightedAverageShsOut"][-1])
    eps = round(totals["netIncome"] / totals["weightedAverageShsOut"], 2)
    return {**totals, "eps": eps, "epsDiluted": round(eps * 0.99, 2)}


def _last(quarters: Mapping[str, Ints]) -> dict[str, float]:
    return {item: float(column[-1]) for item, column in quarters.items()}


def _cash_flow_of(quarters: Mapping[str, Ints]) -> dict[str, float]:
    totals = {item: float(column.sum()) for item, column in quarters.items()}
    begin, end = quarters["cashAtBeginningOfPeriod"][0], quarters["cashAtEndOfPeriod"][-1]
    return {**totals, "cashAtBeginningOfPeriod": float(begin), "cashAtEndOfPeriod": float(end)}


def _accepted(keys: Keys, quarter: Ints, ended: date) -> datetime:
    """Return a moment 30 to 40 days later, on the next session, between 16:00 and 17:30 New York time."""
    filed = calendar.next_session(ended + timedelta(days=29 + int(11 * uniform(keys, quarter, _FILED)[0])))
    seconds = int(5400 * uniform(keys, quarter, _HOUR)[0])
    return calendar.at(filed, time(16)).astimezone(UTC) + timedelta(seconds=seconds)


def _quarter_end(quarter: int) -> date:
    year, number = divmod(quarter + 1, 4)
    return date(year, 3 * number + 1, 1) - timedelta(days=1)


def _whole(values: NDArray[np.floating]) -> Ints:
    return np.round(values).astype(np.int64)
