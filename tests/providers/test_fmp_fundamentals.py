"""The statements of Financial Modeling Prep: of a symbol, and bulk files of a period."""

import re
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise, product

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core import calendar
from market_data.core.batch import Request
from market_data.core.errors import (
    AuthError,
    EntitlementError,
    NetworkError,
    QuotaExhausted,
    SchemaDrift,
    ServerError,
    Throttled,
    TruncatedResponse,
)
from market_data.core.intervals import Interval, closed
from market_data.core.messages import shown
from market_data.datasets.fundamentals import FUNDAMENTALS, PERIODS
from market_data.providers.fmp.fundamentals import LATE, NAMES, check_read, enough, filing, filing_dates, periods_filed
from market_data.providers.fmp.parse import vendors_name
from sandbox.http import SampleApi
from sandbox.vendors.fmp import LIMIT, OVER_QUOTA, PERIOD, RESTRICTED, SYMBOL
from sandbox.vendors.messages import VendorRequest
from tests.contract.provider import KEY, NOW
from tests.providers.test_fmp import make_hook

DAY = timedelta(days=1)
YEAR = (date(2012, 1, 1), date(2012, 12, 31))
SYMBOLS = ("BRK.B", "SPY", *(f"T{letter}" for letter in "ABCDEFGHIJKLMNOP"))
WHERE = {"provider": "fmp", "request": "a statement"}


@pytest.fixture(scope="module")
def running():
    with SampleApi(vendor="fmp", api_key=KEY, symbols=SYMBOLS, now=lambda: NOW) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    running.vendor.plan = "ultimate"
    return running


@pytest.fixture
def hook(server):
    with make_hook(server) as hook:
        hook.now = lambda: NOW
        yield hook


def ask(endpoint, *symbols, span=YEAR):
    return Request("fundamentals", endpoint, symbols or ("BRK.B",), (closed(*span),))


def rows(table):
    return sorted(table.to_pylist(), key=key)


def key(row):
    return tuple(row[name] for name in FUNDAMENTALS.key)


def held(server, request):
    dates = filing_dates(request)
    return sorted(
        (
            {
                "symbol": symbol,
                "session": calendar.next_session(one.filing_date - DAY),
                "statement": one.statement,
                "period": one.period,
                "fiscal_year": one.fiscal_year,
                "period_end": one.period_end,
                "filing_date": one.filing_date,
                "accepted_at": one.accepted,
                "currency": "USD",
                "item": item,
                "value": value,
            }
            for symbol in request.symbols
            for one in server.market.statements(symbol, dates.start, dates.end)
            for item, value in one.values.items()
        ),
        key=key,
    )


ENDPOINTS = ("statements", "bulk")


# what comes


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_item_of_every_statement_filed_in_the_span_comes(server, hook, endpoint):
    request = ask(endpoint)
    fetched = hook.fetch(request)
    assert fetched.table.schema == FUNDAMENTALS.received
    assert rows(fetched.table) == held(server, request)
    assert {(row["statement"], row["period"]) for row in rows(fetched.table)} == set(product(NAMES, PERIODS))
    evidence = fetched.evidence
    assert (evidence.calls, evidence.retries, evidence.rows_declared, evidence.last_page_seen) == (len(server.calls), 0, None, True)
    assert evidence.rows_received > len(fetched.table) > 250
    assert (fetched.refused, fetched.warnings) == ({}, ())


def test_bulk_files_bring_all_symbols_at_once(server, hook):
    request = ask("bulk", *SYMBOLS)
    assert rows(hook.fetch(request).table) == held(server, request)
    assert len(server.calls) == 3 * len(periods_filed(filing_dates(request))) == 51


def test_a_symbols_statements_take_six_calls(server, hook):
    hook.fetch(ask("statements"))
    assert len(server.calls) == 6
    assert {call.target.partition("?")[0] for call in server.calls} == {f"/stable/{name}" for name in NAMES.values()}
    assert all(call.ticker == "BRK-B" for call in server.calls)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_single_session_brings_what_was_filed_for_it_only(server, hook, endpoint):
    one = held(server, ask(endpoint))[0]
    request = ask(endpoint, span=(one["session"], one["session"]))
    found = rows(hook.fetch(request).table)
    assert found == held(server, request)
    assert {row["session"] for row in found} == {one["session"]}


def test_a_symbol_without_statements_is_empty(hook):
    for endpoint in ENDPOINTS:
        assert len(hook.fetch(ask(endpoint, "NOSUCH")).table) == 0


@pytest.mark.parametrize(
    ("first", "last", "filed"),
    [
        (
            date(2012, 7, 5),
            date(2012, 7, 5),
            Interval(date(2012, 7, 4), date(2012, 7, 6)),
        ),  # a holiday's filing is known the day after
        (date(2012, 11, 3), date(2012, 11, 4), Interval(date(2012, 11, 3), date(2012, 11, 3))),  # a weekend has no session
        (date(2012, 11, 5), date(2012, 11, 5), Interval(date(2012, 11, 3), date(2012, 11, 6))),
        (date(2000, 1, 3), date(2000, 1, 3), Interval(date(2000, 1, 3), date(2000, 1, 4))),
    ],
)
def test_filings_belong_to_the_first_session_on_or_after(first, last, filed):
    assert filing_dates(ask("bulk", span=(first, last))) == filed


@given(st.dates(date(2000, 1, 5), date(2039, 1, 1)), st.integers(0, 40), st.integers(-10, 50))
def test_a_filing_is_kept_exactly_where_its_session_is_requested(first, days, offset):
    request, day = ask("bulk", span=(first, first + days * DAY)), first + offset * DAY
    session = calendar.next_session(day - DAY)
    assert (day in filing_dates(request)) == (request.start <= session <= request.last)


# a row


ROW = {
    "date": "2024-09-28", "symbol": "AAPL", "reportedCurrency": "USD", "cik": "0000320193", "filingDate": "2024-11-01",
    "acceptedDate": "2024-11-01 06:01:36", "fiscalYear": "2024", "period": "FY", "revenue": 391035000000, "eps": 6.11,
    "link": "https://www.sec.gov/x",
}  # fmt: skip


def test_a_row_of_the_vendor_is_read():
    one = filing(ROW, "AAPL", "income")
    assert (one.period, one.fiscal_year, one.period_end, one.filed) == ("FY", 2024, date(2024, 9, 28), date(2024, 11, 1))
    assert one.accepted == datetime(2024, 11, 1, 10, 1, 36, tzinfo=UTC)  # EDGAR's clock is New York's
    assert one.items == {"revenue": 391035000000.0, "eps": 6.11}


def test_a_line_of_a_file_is_read_as_the_same():
    assert filing({name: str(value) for name, value in ROW.items()}, "AAPL", "income") == filing(ROW, "AAPL", "income")


@pytest.mark.parametrize("empty", [None, ""])
def test_an_item_without_a_number_has_no_row(empty):
    one = filing({**ROW, "eps": empty, "acceptedDate": empty, "reportedCurrency": empty}, "AAPL", "income")
    assert (one.items, one.accepted, one.currency) == ({"revenue": 391035000000.0}, None, None)


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**53 - 1, 0, 0.01, 1.8646e-8])
def test_amounts_are_exact(number):
    for written in (number, str(number)):
        assert filing({**ROW, "revenue": written}, "AAPL", "income").items["revenue"] == number


@pytest.mark.parametrize(
    "change",
    [
        *({"revenue": value} for value in ("n/a", True, [], {})),
        *({"fiscalYear": value} for value in (None, "MMXII")),
        *({"date": value} for value in (None, "soon")),
        *({"filingDate": value} for value in (7, "soon")),
        {"acceptedDate": "this morning"},
    ],
    ids=str,
)
def test_what_is_no_number_and_no_date_is_named(change):
    one = filing({**ROW, **change}, "AAPL", "income")
    ((name, value),) = change.items()
    (reason,) = one.odd.values() if name == "revenue" else one.problems
    assert reason == (f"{name} is null" if value is None else f"{name} is not of the known form: {shown(value)}")
    with pytest.raises(
        SchemaDrift, match=f"fmp: a statement: the response is not of the known form: {name} is .*, and 2 of 3 rows"
    ):
        check_read([one, one, filing(ROW, "AAPL", "income")], WHERE)
    check_read([one, filing(ROW, "AAPL", "income")], WHERE)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("field", ["period", "filingDate", "fiscalYear"])
def test_a_field_that_is_gone_is_drift(server, hook, endpoint, field):
    server.fault("without", field=field)
    with pytest.raises(SchemaDrift, match=field):
        hook.fetch(ask(endpoint))


# filed again, and without a date


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_of_a_period_that_was_filed_again_the_last_filing_counts(server, hook, endpoint):
    server.fault("restated", match=r"/income-statement.*period=(annual|FY)", times=None, days=30)
    request = ask(endpoint)
    fetched = hook.fetch(request)
    found = {key(row): row for row in fetched.table.to_pylist()}
    assert len(found) == len(fetched.table) == len(held(server, request))
    for row in held(server, request):
        again = (row["statement"], row["period"]) == ("income", "FY")
        assert found[key(row)]["filing_date"] == row["filing_date"] + 30 * DAY * again
        assert found[key(row)]["value"] == row["value"] + (again and row["item"] == "netIncome")
    assert len(fetched.warnings) == 1
    assert "BRK.B filed income of FY 2011 on" in fetched.warnings[0].replace("2012", "2011")


def test_a_later_filing_outside_the_span_does_not_hide_the_first(server, hook):
    server.fault("restated", times=None, days=400)
    request = ask("statements")
    found = [row for row in rows(hook.fetch(request).table) if row["period_end"].year >= 2012]
    assert found == [row for row in held(server, request) if row["period_end"].year >= 2012]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_statement_without_a_filing_date_is_left_aside_and_named(server, hook, endpoint):
    server.fault("changed", match="/cash-flow-statement.*period=(annual|FY)", times=None, field="filingDate", value="")
    request = ask(endpoint)
    fetched = hook.fetch(request)
    left = {(row["statement"], row["period"]) for row in held(server, request)} - {("cash_flow", "FY")}
    assert {(row["statement"], row["period"]) for row in rows(fetched.table)} == left
    assert len(fetched.warnings) == 1
    assert "statements of BRK.B have no filing date and are left aside" in fetched.warnings[0]


# an answer reaches back far enough


def test_the_limit_reaches_back_to_the_span(server, hook):
    hook.fetch(ask("statements"))
    limits = [int(call.target.rpartition("limit=")[2]) for call in server.calls]
    assert limits == [enough("annual", YEAR[0], NOW.date()), enough("quarter", YEAR[0], NOW.date())] * 3 == [11, 44] * 3


def test_a_response_that_does_not_reach_back_is_followed_by_another_request(server, hook, monkeypatch):
    monkeypatch.setattr("market_data.providers.fmp.hook.fundamentals.enough", lambda *_: 2)
    request = ask("statements")
    assert rows(hook.fetch(request).table) == held(server, request)
    limits = [int(call.target.rpartition("limit=")[2]) for call in server.calls]
    assert limits == [2, 8, 32, 2, 8, 32, 128] * 3 or limits == [2, 8, 32] * 6


@given(st.dates(date(2001, 1, 1), date(2020, 1, 1)), st.integers(0, 7000))
def test_the_limit_is_enough_for_statements_without_a_gap(since, age):
    today = since + age * DAY
    for kind, months in (("annual", 12), ("quarter", 3)):
        ends = [today - n * timedelta(days=months * 30.44) for n in range(enough(kind, since, today))]
        assert ends[-1] <= since - LATE


def test_the_free_plan_brings_what_its_five_statements_reach(server):
    server.vendor.plan = "basic"
    with make_hook(server, extra={"plan": "basic"}) as hook:
        hook.now = lambda: NOW
        request = ask("statements", "SPY", span=(date(2020, 4, 1), NOW.date()))
        assert rows(hook.fetch(request).table) == held(server, request) != []
        assert {call.target.rpartition("limit=")[2] for call in server.calls} == {"3", "5"}
        request = ask(
            "statements", "SPY", span=(date(2020, 1, 15), NOW.date())
        )  # what is not shown ended 80 days before 2019-03-31
        assert rows(hook.fetch(request).table) == held(server, request) != []
        fetched = hook.fetch(ask("statements", "SPY", span=(date(2019, 5, 1), NOW.date())))
        assert (list(fetched.refused), len(fetched.table)) == (["SPY"], 0)
        assert re.search(
            r"plan 'basic' includes only the latest 5 statements.* reach back to 2019-03-31.*later dates", fetched.refused["SPY"]
        )


# which periods can have been filed


def test_all_that_the_market_filed_is_of_a_requested_period(server):
    for symbol in SYMBOLS:
        for first, length in product((date(2003, 1, 1), date(2011, 6, 17), date(2015, 11, 30)), (1, 31, 366)):
            dates = Interval(first, first + length * DAY)
            filed = {(one.fiscal_year, one.period) for one in server.market.statements(symbol, *dates)}
            assert filed <= set(periods_filed(dates))


@given(
    filed=st.dates(date(2001, 1, 1), date(2030, 12, 31)),
    before=st.integers(0, 200),
    length=st.integers(1, 366),
    late=st.integers(0, LATE.days),
    ahead=st.integers(0, 3),
    earlier_name=st.booleans(),
)
def test_whatever_was_filed_within_a_year_is_of_a_requested_period(filed, before, length, late, ahead, earlier_name):
    """A quarter that ends ``late`` days before it is filed, so many quarters before its year does, which is called after that end or,
    where it is by June, perhaps after the year before."""
    ended = filed - late * DAY
    month = ended.month + 3 * ahead
    year_ends = date(ended.year + (month - 1) // 12, (month - 1) % 12 + 1, 1)
    name = year_ends.year - (earlier_name and year_ends.month <= 6)
    start = filed - min(before, length - 1) * DAY
    requested = periods_filed(Interval(start, start + length * DAY))
    assert (name, PERIODS[PERIODS.index("Q4") - ahead]) in requested
    if ahead == 0:
        assert (name, "FY") in requested


@pytest.mark.parametrize(
    ("dates", "pairs"),
    [
        (Interval(date(2012, 1, 1), date(2013, 1, 1)), 16),
        (Interval(date(2012, 2, 15), date(2012, 2, 16)), 13),
        (Interval(date(2012, 7, 2), date(2013, 7, 2)), 17),
    ],
)
def test_no_more_periods_are_requested_than_can_be(dates, pairs):
    requested = periods_filed(dates)
    assert len(requested) == len(set(requested)) == pairs
    assert requested == sorted(requested, key=lambda one: one[0])
    for period in PERIODS:
        years = [year for year, name in requested if name == period]
        assert all(after == before + 1 for before, after in pairwise(years))


# files that are not whole


def income_file(year, period="Q1"):
    return f"/income-statement-bulk.*year={year}&period={period}"


def test_rows_missing_from_a_cut_file_are_requested_by_themselves(server, hook):
    server.fault("cut_lines", match=income_file(2012), before="BRK-B")
    request = ask("bulk")
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, request)
    assert fetched.warnings == ("the bulk files of Q1 2012 lack BRK.B (income); fetched symbol by symbol",)
    assert len(server.calls) == 52


def test_a_file_cut_between_lines_that_lost_more_than_a_few_is_refused(server, hook, monkeypatch):
    monkeypatch.setattr("market_data.providers.fmp.hook.FEW", 5)
    vendor = server.vendor
    call = VendorRequest(vendor, "/stable/income-statement-bulk", {"year": "2012", "period": "Q1"})
    lines = vendor.statements_bulk(call, {}).body.splitlines()
    own = [line.split(",")[1].strip('"') for line in lines if line.split(",")[1].strip('"') in {vendors_name(s) for s in SYMBOLS}]
    assert len(own) == len(SYMBOLS)
    server.fault("cut_lines", match=income_file(2012), before=own[3])
    with pytest.raises(TruncatedResponse, match="a file of Q1 2012 lacks .* and more: it is cut"):
        hook.fetch(ask("bulk", *SYMBOLS))


@pytest.mark.parametrize("digits", [0, 1, 4])
def test_a_last_line_without_a_line_end_is_not_trusted(server, hook, digits):
    server.fault("cut_digits", match=income_file(2012), symbol="BRK-B", digits=digits)
    request = ask("bulk")
    assert rows(hook.fetch(request).table) == held(server, request)


def test_files_may_end_without_a_line_end(server, hook):
    server.fault("without_end", times=None)
    request = ask("bulk", *SYMBOLS[:4])
    assert rows(hook.fetch(request).table) == held(server, request)


def test_a_symbol_that_has_two_statements_only_is_no_sign_of_a_cut(server, hook):
    server.fault("without_symbol", match="/cash-flow-statement", times=None, symbol="BRK-B")
    request = ask("bulk")
    fetched = hook.fetch(request)
    assert rows(fetched.table) == [row for row in held(server, request) if row["statement"] != "cash_flow"]
    assert fetched.warnings == ()


# what can go wrong


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("unauthorized", {}, AuthError),
        ("forbidden", {}, EntitlementError),
        ("refused", {"message": RESTRICTED}, EntitlementError),
        ("drifted", {}, SchemaDrift),
    ],
)
def test_a_fault_that_no_retry_helps_is_its_error_at_once(server, hook, endpoint, kind, options, error):
    server.fault(kind, **options)
    with pytest.raises(error, match="fmp: .* BRK.B 2012-01-01..2012-12-31: "):
        hook.fetch(ask(endpoint))
    assert len(server.calls) == 1


PASSING = [
    ("throttled", {}, Throttled),
    ("error_with_200", {}, ServerError),
    ("server_error", {}, ServerError),
    ("html", {}, ServerError),
    ("empty", {}, ServerError),
    ("reset", {}, NetworkError),
    ("other_symbol", {}, ServerError),
    *(("cut", {"fraction": share}, TruncatedResponse) for share in (0.5, 0.9, 0.999)),
    *(("truncated", {"fraction": share}, TruncatedResponse) for share in (0.5, 0.9, 0.999)),
    *(("truncated_gzip", {"fraction": share}, TruncatedResponse) for share in (0.5, 0.9, 0.999)),
    ("other_body", {"body": "{}"}, ServerError),
]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(("kind", "options", "error"), PASSING)
def test_a_fault_that_passes_costs_a_call_and_no_row(server, hook, endpoint, kind, options, error):
    if (kind, endpoint) == ("other_symbol", "bulk"):
        pytest.skip("a file is about all symbols")
    request = ask(endpoint)
    server.fault(kind, match=r"/cash-flow-statement.*(annual|2012)", **options)
    fetched = hook.fetch(request)
    assert rows(fetched.table) == held(server, request)
    assert (fetched.evidence.retries, fetched.evidence.calls) == (1, len(server.calls))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(("kind", "options", "error"), PASSING)
def test_a_fault_that_lasts_is_its_error(server, hook, endpoint, kind, options, error):
    if (kind, endpoint) == ("other_symbol", "bulk"):
        pytest.skip("a file is about all symbols")
    server.fault(kind, match=r"/cash-flow-statement.*(annual|2012)", times=None, **options)
    with pytest.raises(error):
        hook.fetch(ask(endpoint))


def test_a_file_of_another_period_is_an_error(server, hook):
    server.fault("changed", match=income_file(2012), times=None, field="period", value="Q2")
    with pytest.raises(ServerError, match="rows of Q2 2012 came"):
        hook.fetch(ask("bulk"))


@pytest.mark.parametrize("status", [200, 402])
@pytest.mark.parametrize("words", [PERIOD, LIMIT])
def test_the_statements_of_a_period_that_the_plan_lacks_are_named_and_the_others_come(server, hook, words, status):
    server.fault("refused", match="period=quarter", times=None, message=words, status=status)
    request = ask("statements")
    fetched = hook.fetch(request)
    assert rows(fetched.table) == [row for row in held(server, request) if row["period"] == "FY"] != []
    (warning,) = fetched.warnings
    assert warning.startswith("BRK.B: the plan lacks quarter statements: Premium Query Parameter")
    assert fetched.refused == {}
    assert len(server.calls) == 4  # one of the refused period: it is the plan's


@pytest.mark.parametrize("words", [PERIOD, LIMIT])
def test_a_symbol_of_which_the_plan_lacks_all_statements_is_named_and_the_run_goes_on(server, hook, words):
    server.fault("refused", match="symbol=BRK-B", times=None, message=words)
    request = ask("statements", "SPY")
    fetched, other = hook.fetch(ask("statements")), hook.fetch(request)
    assert (list(fetched.refused), len(fetched.table), fetched.warnings) == (["BRK.B"], 0, ())
    assert "the plan lacks annual statements: Premium" in fetched.refused["BRK.B"]
    assert rows(other.table) == held(server, request)


def test_bulk_files_that_the_plan_lacks_end_the_run(server, hook):
    server.fault("refused", message=PERIOD)
    with pytest.raises(EntitlementError, match="value set for 'period'"):
        hook.fetch(ask("bulk"))
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [200, 402])
def test_a_symbol_that_the_plan_lacks_is_named_and_the_run_goes_on(server, hook, status):
    server.fault("refused", message=SYMBOL, status=status)
    fetched = hook.fetch(ask("statements"))
    assert list(fetched.refused) == ["BRK.B"]
    assert len(fetched.table) == 0
    assert fetched.table.schema == FUNDAMENTALS.received
    assert len(server.calls) == 1


def test_a_lost_symbol_that_the_plan_lacks_is_named_and_the_others_come(server, hook):
    server.fault("cut_lines", match=income_file(2012), before="BRK-B")
    server.fault("refused", match="/income-statement[?]symbol=BRK-B", message=SYMBOL)
    request = ask("bulk", "BRK.B", "SPY")
    fetched = hook.fetch(request)
    assert list(fetched.refused) == ["BRK.B"]
    assert [row for row in rows(fetched.table) if row["symbol"] == "SPY"] == [
        row for row in held(server, request) if row["symbol"] == "SPY"
    ]


def test_the_daily_quota_ends_the_run(server):
    server.fault("forbidden", status=429, message=OVER_QUOTA)
    limits = [{"calls": 250, "seconds": 86_400}]
    with make_hook(server, extra={"plan": "basic", "limits": limits}) as hook, pytest.raises(QuotaExhausted):
        hook.fetch(ask("statements"))
    assert len(server.calls) == 1


def test_values_are_of_the_declared_types(hook):
    table = hook.fetch(ask("statements")).table
    assert table["accepted_at"].type == pa.timestamp("us", tz="UTC")
    assert table["value"].null_count == 0


@pytest.mark.parametrize("period", ["Q1", "Q4"])
def test_quarters_that_come_for_annual_statements_are_rejected(server, hook, period):
    server.fault("changed", match="period=annual", field="period", value=period, times=None)
    with pytest.raises(ServerError, match=f"annual statements were requested, and those of {period} came"):
        hook.fetch(ask("statements"))


def test_years_that_come_for_quarters_are_rejected(server, hook):
    server.fault("changed", match="period=quarter", field="period", value="FY", times=None)
    with pytest.raises(ServerError, match="quarter statements were requested, and those of FY came"):
        hook.fetch(ask("statements"))


def test_statements_of_another_period_that_come_once_are_requested_again(server, hook):
    whole = hook.fetch(ask("statements")).table
    server.fault("changed", field="period", value="Q3")
    again = hook.fetch(ask("statements"))
    assert again.table.equals(whole)
    assert again.evidence.retries == 1
