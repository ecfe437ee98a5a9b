"""Odd and stray rows of actions, symbol changes, statements and FMP's bars: through the hook, against a real HTTP server."""

from datetime import date, timedelta

import pytest

from market_data.core.batch import Request
from market_data.core.errors import SchemaDrift, ServerError
from market_data.core.intervals import closed
from market_data.datasets.generated import GeneratedDividend, GeneratedSplit
from market_data.providers.alpaca.hook import AlpacaHook
from market_data.providers.fmp.hook import FMPHook
from market_data.providers.polygon.hook import PolygonHook
from sandbox.http import SampleApi
from sandbox.vendors.fmp_faults import EOD_COLUMNS
from tests.contract.provider import KEY, WEEK
from tests.providers.sample_setup import hook_on

DAY = timedelta(days=1)
HOOKS = {"polygon": PolygonHook, "alpaca": AlpacaHook, "fmp": FMPHook}
ACTIONS = {"polygon": "reference", "alpaca": "actions", "fmp": "actions"}
ACTION_DAYS = (date(2013, 1, 2), date(2013, 3, 28))
NUMBERS = ('"x"', '""', "true", "NaN", "-Infinity", "1e400", "[1]", '{"a": 1}', "9" * 400)
DATES = ('"soon"', '"2013-02-30"', '""', "7", "true", "[]", "null", "Infinity")


@pytest.fixture(scope="module")
def running():
    with SampleApi(api_key=KEY, symbols=("BRK.B", "SPY")) as api:
        yield api


@pytest.fixture
def server(running):
    running.forget()
    return running


def make(server, name):
    extra = {"plan": "sample"} if name == "fmp" else {}
    login = {"login": "id"} if name == "alpaca" else {}
    return hook_on(HOOKS[name], name, server, extra=extra, base_url=f"{server.url}/{name}", **login)


@pytest.fixture
def held(server, monkeypatch):
    """Two splits and four dividends of IBM, which the vendor has."""
    days = [date(2013, 1, 8) + 7 * n * DAY for n in range(4)]
    splits = [GeneratedSplit("IBM", day, 1.0, 2.0 + n, f"S{n}") for n, day in enumerate(days[:3])]
    paid = [
        GeneratedDividend("IBM", day, 0.5 + n, day - 9 * DAY, day + DAY, day + 9 * DAY, "CD", 4, f"D{n}")
        for n, day in enumerate(days)
    ]

    def within(actions, start, end, symbols):
        return [one for one in actions if start <= one.ex_date < end and (symbols is None or one.symbol in symbols)]

    monkeypatch.setattr(server.market, "splits", lambda start, end, symbols=None: within(splits, start, end, symbols))
    monkeypatch.setattr(server.market, "dividends", lambda start, end, symbols=None: within(paid, start, end, symbols))
    return [*splits, *paid]


def actions(name, *symbols, days=ACTION_DAYS):
    return Request("corporate-actions", ACTIONS[name], symbols or ("IBM",), (closed(*days),))


def substitute(server, name, pattern, text, match=None, times=None, count=1):
    server.fault("substituted", vendor=name, match=match, times=times, pattern=pattern, text=text, count=count)


FIELDS = {
    ("polygon", "splits"): (["split_from", "split_to"], ["execution_date"], "ticker"),
    ("polygon", "dividends"): (
        ["cash_amount", "frequency"],
        ["ex_dividend_date", "declaration_date", "record_date", "pay_date"],
        "ticker",
    ),
    ("alpaca", "splits"): (["old_rate", "new_rate"], ["ex_date", "process_date"], "symbol"),
    ("alpaca", "dividends"): (["rate", "special"], ["ex_date", "record_date", "payable_date", "process_date"], "symbol"),
    ("fmp", "splits"): (["numerator", "denominator"], ["date"], "symbol"),
    ("fmp", "dividends"): (["dividend", "frequency"], ["date", "declarationDate", "recordDate", "paymentDate"], "symbol"),
}
EX_DATES = ("execution_date", "ex_dividend_date", "ex_date", "date")
KINDS = {"splits": "splits", "dividends": "cash_dividends"}


def in_list(name, kind, field):
    """A pattern of a field's value in the first row of a list, with what comes before as group 1."""
    before = rf'"(?:forward_{kind}|{KINDS[kind]})": ?\[.*?' if name == "alpaca" else "^.*?"
    return rf'(?s)({before}"{field}": ?)("[^"]*"|[-0-9.]+|true|false|null)'


def path_of(name, kind):
    return "corporate-actions" if name == "alpaca" else f"/{kind}"


CASES = [
    (name, kind, field, value)
    for (name, kind), (numbers, dates, _) in FIELDS.items()
    for field, values in [*((n, NUMBERS) for n in numbers), *((d, DATES) for d in dates)]
    for value in values
    if not (value in ("null", '""') and field not in EX_DATES)  # absent, or an empty text: unknown to FMP
    and not (field == "special" and value == "true")
    and not (field == "frequency" and name == "fmp" and value[0] in '"N-')  # an unknown word is no frequency
]


@pytest.mark.parametrize(("name", "kind", "field", "value"), CASES, ids=lambda text: text[:20])
def test_an_odd_action_is_quarantined_and_the_others_come(server, held, name, kind, field, value):
    with make(server, name) as hook:
        whole = hook.fetch(actions(name))
        substitute(server, name, in_list(name, kind, field), rf"\g<1>{value}", path_of(name, kind))
        fetched = hook.fetch(actions(name))
    assert len(whole.table) == len(held)
    assert len(fetched.table) == len(held) - 1
    left = [row for row in whole.table.to_pylist() if row not in fetched.table.to_pylist()]
    (odd,) = fetched.odd.to_pylist()
    assert odd["reasons"].startswith(f"{field} is ")
    assert odd["action"] == left[0]["action"] == kind.removesuffix("s")
    assert odd["symbol"] == "IBM"
    dated = field not in EX_DATES
    assert odd["session"] == (left[0]["session"] if dated else None)
    assert fetched.unproved == ({} if dated else {"IBM": "a row came whose date cannot be read"})
    assert fetched.evidence.rows_received == whole.evidence.rows_received


@pytest.mark.parametrize("row", ["null", "7", "[1, 2]", '"x"', "[[[]]]"])
@pytest.mark.parametrize(("name", "kind"), FIELDS)
def test_a_row_that_is_not_an_object_is_quarantined(server, held, name, kind, row):
    before = rf'"(?:forward_{kind}|{KINDS[kind]})": ?\[' if name == "alpaca" else r'"results": ?\[' if name == "polygon" else r"^\["
    substitute(server, name, f"({before})", rf"\g<1>{row},", path_of(name, kind))
    with make(server, name) as hook:
        fetched = hook.fetch(actions(name))
    assert len(fetched.table) == len(held)
    (odd,) = fetched.odd.to_pylist()
    assert odd["reasons"] == f"the row is {row}, not an object"
    assert odd["symbol"] == "IBM"
    assert set(fetched.unproved) == {"IBM"}


@pytest.mark.parametrize("value", ['""', "null", "7", "[]", "true"])
@pytest.mark.parametrize(("name", "kind"), FIELDS)
def test_a_row_without_a_symbol_may_be_anyones(server, held, name, kind, value):
    symbol = FIELDS[name, kind][2]
    substitute(server, name, in_list(name, kind, symbol), rf"\g<1>{value}", path_of(name, kind))
    many = () if name == "fmp" else ("IBM", "SPY")
    with make(server, name) as hook:
        fetched = hook.fetch(actions(name, *many))
    assert len(fetched.table) == len(held) - 1
    (odd,) = fetched.odd.to_pylist()
    assert odd["reasons"].startswith(f"{symbol} is ")
    alone = name != "alpaca"  # the others' rows were requested symbol by symbol
    assert (odd["symbol"], odd["session"] is None) == ("IBM" if alone else None, False)
    assert fetched.unproved == ({} if alone else dict.fromkeys(many, "a row came whose symbol cannot be read"))


@pytest.mark.parametrize(("name", "kind"), FIELDS)
def test_an_action_of_another_symbol_is_left_aside_and_counted(server, held, name, kind):
    substitute(server, name, in_list(name, kind, FIELDS[name, kind][2]), r'\g<1>"ZVZZT"', path_of(name, kind))
    with make(server, name) as hook:
        fetched = hook.fetch(actions(name))
    assert (len(fetched.table), fetched.evidence.rows_left_aside, fetched.odd) == (len(held) - 1, 1, None)
    assert fetched.warnings == ("1 row that was not requested came and is left aside: ZVZZT",)
    assert fetched.unproved == {"IBM": "rows of ZVZZT came"}
    assert fetched.evidence.retries == 1


@pytest.mark.parametrize(("name", "kind"), [key for key in FIELDS if key[0] != "fmp"])
def test_an_action_of_another_date_is_left_aside_and_counted(server, held, name, kind):
    field = next(field for field in FIELDS[name, kind][1] if field in EX_DATES)
    substitute(server, name, in_list(name, kind, field), r'\g<1>"1999-01-04"', path_of(name, kind))
    if name == "alpaca":
        substitute(server, name, in_list(name, kind, field), r'\g<1>"1999-01-04"', path_of(name, kind))
    with make(server, name) as hook:
        fetched = hook.fetch(actions(name))
    aside = 0 if name == "alpaca" else 1  # Alpaca's was processed years after its date: it is never taken
    assert (len(fetched.table), fetched.evidence.rows_left_aside) == (len(held) - 1, aside)


@pytest.mark.parametrize(("name", "kind"), FIELDS)
def test_actions_that_are_mostly_odd_are_another_form(server, held, name, kind):
    field = FIELDS[name, kind][0][0]
    match = path_of(name, kind)
    substitute(server, name, rf'"{field}": ?[0-9.]+', f'"{field}": "x"', match, count=0)
    if name == "alpaca":
        pytest.skip("splits and dividends come in one page") if kind == "splits" else None
    with make(server, name) as hook, pytest.raises(SchemaDrift, match=rf'{field} is "x".*rows are like that'):
        hook.fetch(actions(name))
    assert len([call for call in server.calls if match in call.target]) == 1


@pytest.mark.parametrize("name", ["polygon", "fmp"])
def test_actions_that_are_mostly_of_others_are_an_error(server, held, name):
    field = FIELDS[name, "splits"][2]
    substitute(server, name, rf'"{field}": ?"IBM"', f'"{field}": "ZVZZT"', "/splits", count=0)
    with make(server, name) as hook, pytest.raises(ServerError, match="rows of ZVZZT came"):
        hook.fetch(actions(name))


def test_an_odd_action_of_a_symbol_that_was_not_requested_does_not_matter(server, held):
    request = actions("polygon", "SPY", "BRK.B", "MSFT", days=(date(2013, 1, 8), date(2013, 1, 8)))
    substitute(server, "polygon", in_list("polygon", "splits", "split_to"), r'\g<1>"x"', "/splits")
    with make(server, "polygon") as hook:
        fetched = hook.fetch(request)
    assert (len(fetched.table), fetched.odd, fetched.unproved) == (0, None, {})


# changes of symbols

CHANGED = (date(2022, 6, 1), date(2022, 6, 30))


def change(name, *symbols):
    endpoint = {"polygon": "events", "alpaca": "actions"}[name]
    return Request("symbol-changes", endpoint, symbols or ("META",), (closed(*CHANGED),))


def events(*steps):
    rows = (f'{{"type": "ticker_change", "date": {day}, "ticker_change": {{"ticker": {ticker}}}}}' for day, ticker in steps)
    return f"[{', '.join(rows)}]"


def given_events(server, *steps, raw=""):
    substitute(server, "polygon", r'(?s)"events": ?\[.*\]', f'"events": {raw or events(*steps)}', "/events")


LISTED, FIRST, SECOND = ('"2010-05-18"', '"AA"'), ('"2022-06-09"', '"BB"'), ('"2022-06-21"', '"META"')


@pytest.mark.parametrize("value", DATES)
@pytest.mark.parametrize("newest_first", [True, False])
def test_an_event_without_a_date_keeps_its_place_between_the_others(server, value, newest_first):
    steps = [LISTED, (value, '"CC"'), FIRST, SECOND]
    given_events(server, *(steps[::-1] if newest_first else steps))
    with make(server, "polygon") as hook:
        fetched = hook.fetch(change("polygon"))
    found = [(row["old_symbol"], row["new_symbol"]) for row in fetched.table.sort_by("effective_date").to_pylist()]
    assert found == [("CC", "BB"), ("BB", "META")]
    (odd,) = fetched.odd.to_pylist()
    assert (odd["symbol"], odd["effective_date"], odd["old_symbol"], odd["new_symbol"]) == ("META", None, "AA", "CC")
    assert odd["reasons"].startswith("date is ")
    assert fetched.unproved == {"META": "a row came whose date cannot be read"}


def test_an_event_without_a_date_among_others_in_no_order_leaves_no_change_certain(server):
    given_events(server, FIRST, ('"soon"', '"CC"'), LISTED, SECOND)
    with make(server, "polygon") as hook:
        fetched = hook.fetch(change("polygon"))
    assert len(fetched.table) == 0
    assert sorted(str(row["effective_date"]) for row in fetched.odd.to_pylist()) == ["2022-06-09", "2022-06-21", "None"]


@pytest.mark.parametrize("value", ['""', "null", "7", "[]", '{"a": 1}'])
def test_an_event_without_a_ticker_is_quarantined_with_the_change_after_it(server, value):
    third = ('"2022-06-28"', '"DD"')
    given_events(server, LISTED, (FIRST[0], value), SECOND, third)
    with make(server, "polygon") as hook:
        fetched = hook.fetch(change("polygon"))
    assert [(row["old_symbol"], row["new_symbol"]) for row in fetched.table.to_pylist()] == [("META", "DD")]
    odd = [(row["effective_date"].day, row["old_symbol"], row["new_symbol"]) for row in fetched.odd.to_pylist()]
    assert odd == [(9, "AA", None), (21, None, "META")]
    assert fetched.unproved == {}


@pytest.mark.parametrize("row", ["null", "[]", "7", '"x"'])
def test_an_event_that_is_not_an_object_is_quarantined(server, row):
    given_events(server, raw=events(LISTED, FIRST, SECOND)[:-1] + f", {row}]")
    with make(server, "polygon") as hook:
        fetched = hook.fetch(change("polygon"))
    assert len(fetched.table) == 2
    assert fetched.odd["reasons"].to_pylist() == [f"the row is {row}, not an object"]


def test_events_of_a_day_that_contradict_each_other_are_quarantined(server):
    given_events(server, LISTED, FIRST, (FIRST[0], '"CC"'), SECOND, ('"2022-06-28"', '"DD"'))
    with make(server, "polygon") as hook:
        fetched = hook.fetch(change("polygon"))
    assert [(row["old_symbol"], row["new_symbol"]) for row in fetched.table.to_pylist()] == [("META", "DD")]
    assert [row["effective_date"].day for row in fetched.odd.to_pylist()] == [9, 9, 21]
    given_events(server, LISTED, FIRST, FIRST, SECOND)
    server.faults.clear()
    given_events(server, LISTED, FIRST, FIRST, SECOND)
    with make(server, "polygon") as hook:
        assert (len(hook.fetch(change("polygon")).table), hook.fetch(change("polygon")).odd) == (2, None)


def test_events_that_are_mostly_odd_are_another_form(server):
    given_events(server, ("7", '"AA"'), ("7", '"BB"'), SECOND)
    with make(server, "polygon") as hook, pytest.raises(SchemaDrift, match="date is 7: .*, and 2 of 3 rows are like that"):
        hook.fetch(change("polygon"))


NAME_CHANGES = '"name_changes": [%s]'
RENAMED = '{"old_symbol": "%s", "new_symbol": "%s", "process_date": "%s"}'


def given_changes(server, *rows):
    body = ", ".join(rows)
    substitute(
        server, "alpaca", r'(?s)"corporate_actions": ?\{.*?\](?=\})', f'"corporate_actions": {{"name_changes": [{body}]', None
    )


@pytest.mark.parametrize(
    ("row", "symbol", "dated"),
    [
        ('{"old_symbol": 7, "new_symbol": "META", "process_date": "2022-06-21"}', "META", True),
        ('{"old_symbol": "META", "new_symbol": "", "process_date": "2022-06-21"}', "META", True),
        ('{"old_symbol": "META", "new_symbol": "BB", "process_date": "soon"}', "META", False),
        ('{"old_symbol": "META", "process_date": "2022-06-21"}', "META", True),
        ('{"old_symbol": "AA", "new_symbol": null, "process_date": "2022-06-21"}', None, True),
        ("null", None, False),
    ],
)
def test_an_odd_change_of_a_name_is_quarantined(server, row, symbol, dated):
    given_changes(server, RENAMED % ("FB", "META", "2022-06-09"), row)
    with make(server, "alpaca") as hook:
        fetched = hook.fetch(change("alpaca", "META", "SPY"))
    assert [(row["old_symbol"], row["new_symbol"]) for row in fetched.table.to_pylist()] == [("FB", "META")]
    (odd,) = fetched.odd.to_pylist()
    assert (odd["symbol"], odd["session"] is not None) == (symbol, dated)
    assert set(fetched.unproved) == ({"META", "SPY"} if symbol is None else set() if dated else {"META"})


def test_a_change_of_others_is_left_aside_and_counted(server):
    given_changes(server, RENAMED % ("FB", "META", "2022-06-09"), RENAMED % ("XX", "YY", "2022-06-09"))
    with make(server, "alpaca") as hook:
        fetched = hook.fetch(change("alpaca"))
    assert (len(fetched.table), fetched.evidence.rows_left_aside, set(fetched.unproved)) == (1, 1, {"META"})


# FMP's bars

MONDAY = WEEK[0]


def history(*symbols):
    return Request("ohlcv-1d", "history", symbols or ("IBM",), (closed(*WEEK),))


def bulk(*symbols):
    return Request("ohlcv-1d", "bulk", symbols or ("IBM", "SPY", "BRK.B"), (closed(MONDAY, MONDAY),))


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("field", ["adjOpen", "adjHigh", "adjLow", "adjClose", "volume"])
def test_an_odd_bar_of_a_history_is_quarantined(server, field, value):
    substitute(server, "fmp", in_list("fmp", "", field), rf"\g<1>{value}")
    with make(server, "fmp") as hook:
        fetched = hook.fetch(history())
    assert fetched.table["session"].to_pylist() == [MONDAY + n * DAY for n in range(4)]
    (odd,) = fetched.odd.to_pylist()
    assert (odd["symbol"], odd["session"], odd["reasons"].startswith(f"{field} is ")) == ("IBM", MONDAY + 4 * DAY, True)
    assert [odd[name] is None for name in ("open", "high", "low", "close", "volume")].count(True) == 1
    assert (fetched.evidence.rows_received, fetched.unproved) == (5, {})


@pytest.mark.parametrize("value", DATES)
def test_an_odd_date_of_a_history_leaves_cells_unproved(server, value):
    substitute(server, "fmp", in_list("fmp", "", "date"), rf"\g<1>{value}")
    with make(server, "fmp") as hook:
        fetched = hook.fetch(history())
    assert (len(fetched.table), fetched.odd["session"].to_pylist()) == (4, [None])
    assert fetched.unproved == {"IBM": "a row came whose date cannot be read"}


@pytest.mark.parametrize(("field", "value"), [("symbol", '"ZVZZT"'), ("date", '"1999-01-04"')])
def test_a_stray_bar_of_a_history_is_left_aside_and_counted(server, field, value):
    substitute(server, "fmp", in_list("fmp", "", field), rf"\g<1>{value}")
    with make(server, "fmp") as hook:
        fetched = hook.fetch(history())
    assert (len(fetched.table), fetched.evidence.rows_left_aside, fetched.odd) == (4, 1, None)
    assert fetched.unproved == {"IBM": f"rows of {value[1:-1]} came"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('"adjClose": "x"', 'adjClose is "x"'),
        ('"adjClose": NaN', 'adjClose is "NaN"'),
        ('"adjClose": 1e400', "adjClose is 1e400"),
    ],
)
def test_a_bar_whose_adjusted_close_is_odd_is_quarantined(server, text, reason):
    substitute(server, "fmp", r'"adjClose": ?[0-9.]+', text, "dividend-adjusted")
    with hook_on(FMPHook, "fmp", server, extra={"plan": "starter"}, base_url=f"{server.url}/fmp") as hook:
        fetched = hook.fetch(history())
    assert (len(fetched.table), fetched.table["adj_close"].null_count) == (4, 0)
    (odd,) = fetched.odd.to_pylist()
    assert (odd["session"], odd["close"] > 0, odd["adj_close"]) == (MONDAY + 4 * DAY, True, None)
    assert odd["reasons"].startswith(f"dividend-adjusted: {reason}")


def test_a_bar_with_two_adjusted_closes_is_quarantined(server):
    substitute(server, "fmp", r'(?s)^\[(\{.*?"adjClose": ?)[0-9.]+(.*?\})', r"[\g<1>1.5\g<2>, \g<1>2.5\g<2>", "dividend-adjusted")
    with hook_on(FMPHook, "fmp", server, extra={"plan": "starter"}, base_url=f"{server.url}/fmp") as hook:
        fetched = hook.fetch(history())
    assert fetched.odd["reasons"].to_pylist() == ["dividend-adjusted: adjClose is 1.5 and 2.5"]
    assert len(fetched.table) == 4


LINE = r'(?m)^("?IBM"?,.*)$'


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "adjClose", "volume"])
@pytest.mark.parametrize("value", ["x", "true", "[1]", "1.5.5"])
def test_an_odd_line_of_a_bulk_file_is_quarantined(server, column, value):
    with make(server, "fmp") as hook:
        whole = hook.fetch(bulk())
        place = EOD_COLUMNS.index(column)
        substitute(server, "fmp", rf"(?m)^((?:[^,\n]*,){{{place}}}(?<=))", "", "none", times=0) if False else None
        pattern = rf'(?m)^("?IBM"?,(?:[^,\n]*,){{{place - 1}}})[^,\n]*'
        substitute(server, "fmp", pattern, rf"\g<1>{value}", "eod-bulk")
        fetched = hook.fetch(bulk())
    assert sorted(fetched.table["symbol"].to_pylist()) == ["BRK.B", "SPY"]
    (odd,) = fetched.odd.to_pylist()
    assert (odd["symbol"], odd["session"], odd["reasons"]) == ("IBM", MONDAY, f"{column} is '{value}', not a number")
    assert fetched.evidence.rows_received == whole.evidence.rows_received
    assert (fetched.unproved, [call.endpoint for call in server.calls if call.endpoint == "eod"]) == ({}, [])


@pytest.mark.parametrize("line", ["IBM,2013-01-07,1.5", "IBM,2013-01-07,1,2,3,4,5,6,7,8", '"IBM","2013-01-07","1'])
def test_a_torn_line_of_a_bulk_file_is_quarantined(server, line):
    substitute(server, "fmp", LINE, line, "eod-bulk")
    with make(server, "fmp") as hook:
        fetched = hook.fetch(bulk())
    (odd,) = fetched.odd.to_pylist()
    assert odd["reasons"].startswith("the line has ")
    assert odd["symbol"] == (None if line.startswith('"') else "IBM")
    assert sorted(fetched.table["symbol"].to_pylist())[-1] == "SPY"


def test_bytes_that_are_not_text_spoil_only_their_line(server):
    substitute(server, "fmp", '(?m)^("?SPY"?,[^,]*,)[^,]*', "\\g<1>1.5\udcff", "eod-bulk")
    with make(server, "fmp") as hook:
        fetched = hook.fetch(bulk())
    assert sorted(fetched.table["symbol"].to_pylist()) == ["BRK.B", "IBM"]
    assert fetched.odd["reasons"].to_pylist()[0].endswith("not UTF-8 text")


@pytest.mark.parametrize("value", ["", "soon", "2013-1-7", "20130107"])
def test_an_odd_date_of_a_bulk_file_is_quarantined_under_its_session(server, value):
    substitute(server, "fmp", '(?m)^("?IBM"?,)[^,\\n]*', rf"\g<1>{value}", "eod-bulk")
    with make(server, "fmp") as hook:
        fetched = hook.fetch(bulk())
    assert fetched.odd.select(["symbol", "session"]).to_pylist() == [{"symbol": "IBM", "session": MONDAY}]
    assert len(fetched.table) == 2


def test_a_line_without_a_symbol_may_be_that_of_a_symbol_that_is_not_looked_up(server):
    substitute(server, "fmp", '(?m)^"?IBM"?,', ",", "eod-bulk")
    with make(server, "fmp") as hook:
        hook.records.untraded = lambda symbols, day: tuple(symbols)
        fetched = hook.fetch(bulk())
    assert fetched.unproved == {"IBM": "a row came whose symbol cannot be read"}
    assert fetched.odd["symbol"].to_pylist() == [None]


# FMP's statements

FILED = (date(2013, 1, 2), date(2013, 12, 31))


def statements(endpoint):
    return Request("fundamentals", endpoint, ("BRK.B",), (closed(*FILED),))


def key(row):
    return row["statement"], row["period"], row["item"]


ITEMS = ('"x"', "true", "NaN", "[1]", '{"a": 1}', "9" * 400)


@pytest.mark.parametrize("value", ITEMS)
def test_an_odd_item_of_a_statement_is_quarantined(server, value):
    with make(server, "fmp") as hook:
        whole = hook.fetch(statements("statements"))
        substitute(server, "fmp", in_list("fmp", "", "netIncome"), rf"\g<1>{value}", r"/income-statement.*period=annual")
        fetched = hook.fetch(statements("statements"))
    odd = fetched.odd.to_pylist() if fetched.odd else []
    gone = {key(row) for row in whole.table.to_pylist()} - {key(row) for row in fetched.table.to_pylist()}
    assert gone == {key(row) for row in odd}
    assert gone <= {("income", "FY", "netIncome")}
    assert not fetched.unproved


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("filingDate", value) for value in ('"soon"', "7", "[]", "true")),
        *(("date", value) for value in ('"soon"', "null", '""', "7")),
        *(("fiscalYear", value) for value in ('"MMXII"', "null", "true", "1.5", '""')),
        *(("period", value) for value in ("7", "null", "[]")),
        *(("acceptedDate", value) for value in ('"soon"', "7")),
        *(("reportedCurrency", value) for value in ("7", '{"a": 1}')),
    ],
)
def test_an_odd_statement_is_quarantined(server, field, value):
    match = r"/balance-sheet-statement.*period=quarter"
    with make(server, "fmp") as hook:
        whole = hook.fetch(statements("statements"))
        first = max(
            (row for row in whole.table.to_pylist() if row["statement"] == "balance_sheet" and row["period"] != "FY"),
            key=lambda row: row["period_end"],
        )
        name = f'"date": ?"{first["period_end"]}"'
        pattern = rf'(?s)(\{{(?=[^{{}}]*{name})[^{{}}]*"{field}": ?)("[^"]*"|[-0-9.]+|null)'
        substitute(server, "fmp", pattern, rf"\g<1>{value}", match)
        fetched = hook.fetch(statements("statements"))
    gone = {key(row) for row in whole.table.to_pylist()} - {key(row) for row in fetched.table.to_pylist()}
    assert {(statement, period) for statement, period, _ in gone} == {("balance_sheet", first["period"])}
    odd = fetched.odd.to_pylist()
    assert {row["item"] for row in odd} == {item for _, _, item in gone}
    assert all(row["reasons"].startswith(f"{field} is ") for row in odd)
    assert all(row["symbol"] == "BRK.B" and row["value"] is not None for row in odd)
    assert set(fetched.unproved) == ({"BRK.B"} if field == "filingDate" else set())


@pytest.mark.parametrize("row", ["null", "7", "[]"])
def test_a_statement_that_is_not_an_object_is_quarantined(server, row):
    with make(server, "fmp") as hook:
        whole = hook.fetch(statements("statements"))
        substitute(server, "fmp", r"^\[", f"[{row}, ", r"/income-statement.*period=annual")
        fetched = hook.fetch(statements("statements"))
    assert fetched.table.equals(whole.table)
    assert fetched.odd["reasons"].to_pylist() == [f"the row is {row}, not an object"]
    assert set(fetched.unproved) == {"BRK.B"}


@pytest.mark.parametrize(("field", "value"), [("symbol", '"ZVZZT"'), ("period", '"Q3"')])
def test_a_stray_statement_is_left_aside_and_counted(server, field, value):
    with make(server, "fmp") as hook:
        whole = hook.fetch(statements("statements"))
        substitute(server, "fmp", in_list("fmp", "", field), rf"\g<1>{value}", r"/income-statement.*period=annual")
        fetched = hook.fetch(statements("statements"))
    assert fetched.evidence.rows_left_aside > 0
    assert {key(row)[:2] for row in whole.table.to_pylist()} - {key(row)[:2] for row in fetched.table.to_pylist()} <= {
        ("income", "FY")
    }
    assert set(fetched.unproved) == {"BRK.B"}


def test_an_odd_line_of_a_file_of_statements_is_quarantined(server):
    match = r"/income-statement-bulk.*period=FY"
    with make(server, "fmp") as hook:
        whole = hook.fetch(statements("bulk"))
        substitute(server, "fmp", r'(?m)^([^,\n]*,"?BRK-B"?,.*?),[^,\n]*$', r"\g<1>,x", match)
        fetched = hook.fetch(statements("bulk"))
        server.faults.clear()
        substitute(server, "fmp", r'(?m)^([^,\n]*,"?BRK-B"?,.*?),[^,\n]*$', r"\g<1>", match)
        torn = hook.fetch(statements("bulk"))
    assert len(fetched.table) == len(whole.table) - 1
    assert "is not of the known form: 'x'" in fetched.odd["reasons"].to_pylist()[0]
    assert torn.odd["reasons"].to_pylist()[0].startswith("the line has ")
    assert set(torn.unproved) == {"BRK.B"}
