"""The sample gateway, called by the official-shaped client ``ib_async`` over a real socket, and by bytes of our own."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from ib_async import IB, ContFuture, Future, Index, RequestError, Stock

from market_data.core import calendar
from market_data.core.capabilities import Window
from sandbox.http import SampleApi
from sandbox.ib_gateway import RULES, Rules, SampleGateway, read_call_log
from sandbox.ib_gateway.contracts import expiry, roll

NOW = datetime(2026, 11, 20, 23, tzinfo=UTC)
PROJECT = Path(__file__).parents[2]
IBM, AAPL, VIX = Stock("IBM", "SMART", "USD"), Stock("AAPL", "SMART", "USD"), Index("VIX", "CBOE", "USD")
ES = Future("ES", "202612", "CME", currency="USD")
WEEK = "20130112 00:00:00 US/Eastern"


@pytest.fixture(scope="module")
def running():
    with SampleGateway(now=lambda: NOW) as gateway:
        yield gateway


@pytest.fixture
def gateway(running):
    running.forget()
    return running


@pytest.fixture
def ib(gateway):
    with connected(gateway) as client:
        yield client


@contextlib.contextmanager
def connected(gateway, client_id=1):
    """A client as its library connects by default: with all it asks for while it starts."""
    client = IB()
    client.RaiseRequestErrors = True
    client.connect("127.0.0.1", gateway.port, clientId=client_id, timeout=60)
    try:
        yield client
    finally:
        client.disconnect()
        until = time.monotonic() + 60
        while client_id in gateway.clients and time.monotonic() < until:
            time.sleep(0.01)


def bars(ib, contract, end=WEEK, duration="5 D", size="1 day", what="TRADES", regular=True, form=1):
    return ib.reqHistoricalData(contract, end, duration, size, what, regular, formatDate=form, timeout=60)


def refusal(ib, *args, **more):
    with pytest.raises(RequestError) as caught:
        bars(ib, *args, **more)
    return caught.value.code, caught.value.message


# connecting


def test_a_client_connects_with_all_it_asks_for_while_it_starts(ib, gateway):
    assert ib.client.serverVersion() == 178
    assert ib.managedAccounts() == ["DU1000001"]
    assert (ib.positions(), ib.openOrders(), ib.fills()) == ([], [], [])
    assert abs(ib.reqCurrentTime() - datetime.now(UTC)) < timedelta(seconds=5)
    assert gateway.calls == []


@pytest.mark.parametrize("version", [157, 162, 163, 164, 166, 176, 178])
def test_every_version_of_the_protocol_is_spoken(version):
    with SampleGateway(version=version, now=lambda: NOW) as old, connected(old) as ib:
        assert ib.client.serverVersion() == version
        (details,) = ib.reqContractDetails(Stock("BRK B", "SMART", "USD"))
        assert (details.longName, details.minTick, details.stockType) == ("BRK B INC", 0.01, "COMMON")
        assert len(bars(ib, IBM)) == 5
        assert refusal(ib, Stock("NOSUCH", "SMART", "USD"))[0] == 200


@pytest.mark.parametrize("offer", [b"v100..150", b"v179..190"])
def test_a_client_of_another_version_is_turned_away(gateway, offer):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=2) as client:
        client.sendall(b"API\0" + struct.pack(">I", len(offer)) + offer)
        assert client.recv(100) == b""


def test_what_is_no_client_is_turned_away(gateway):
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=2) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""


def test_a_client_id_is_given_once(gateway, ib):
    other = IB()
    errors = []
    other.errorEvent += lambda *error: errors.append(error[1])
    with pytest.raises((TimeoutError, ConnectionError)):
        other.connect("127.0.0.1", gateway.port, clientId=1, timeout=2)
    assert 326 in errors
    with connected(gateway, 2):
        assert gateway.clients == {1, 2}


# contracts


@pytest.mark.parametrize(
    ("contract", "found"),
    [
        (Stock("BRK B", "SMART", "USD"), ("STK", "BRK B", "NYSE", "")),
        (VIX, ("IND", "VIX", "", "")),
        (ES, ("FUT", "ESZ6", "", "20261218")),
        (Future("MES", "20270319", "CME"), ("FUT", "MESH7", "", "20270319")),
        (Future(localSymbol="ESH7", symbol="ES", exchange="CME"), ("FUT", "ESH7", "", "20270319")),
        (ContFuture("ES", "CME"), ("CONTFUT", "ESZ6", "", "20261218")),
    ],
)
def test_a_contract_is_found_by_its_description(ib, contract, found):
    (details,) = ib.reqContractDetails(contract)
    got = details.contract
    assert (got.secType, got.localSymbol, got.primaryExchange, got.lastTradeDateOrContractMonth) == found
    again = ib.reqContractDetails(type(got)(conId=got.conId, secType=got.secType, symbol=got.symbol))
    assert [other.contract for other in again] == [got]


def test_the_indices_have_the_vendors_numbers(ib):
    assert [ib.reqContractDetails(Index(name, "CBOE"))[0].contract.conId for name in ("VIX", "SPX")] == [13455763, 416904]


def test_quarterlies_are_listed_ahead_and_expired_ones_only_when_requested(ib):
    def listed(**more):
        found = ib.reqContractDetails(Future("ES", exchange="CME", **more))
        return [details.contract.lastTradeDateOrContractMonth for details in found]

    assert listed() == ["20261218", "20270319", "20270617", "20270917", "20271217"]
    assert listed(includeExpired=True) == [
        *("20241220", "20250321", "20250620", "20250919", "20251219", "20260320", "20260618", "20260918"),
        *listed(),
    ]


@pytest.mark.parametrize(
    "contract",
    [
        Stock("NOSUCH", "SMART", "USD"),
        Stock("BRK.B", "SMART", "USD"),
        Future("ES", "202612", "GLOBEX"),
        Future("ES", "202011", "CME", includeExpired=True),
        Future("ES", "202609", "CME"),
        Future("ES", "202209", "CME", includeExpired=True),
        Stock("VIX", "SMART", "USD"),
    ],
)
def test_what_there_is_not_is_error_200(ib, contract):
    assert refusal(ib, contract) == (200, "No security definition has been found for the request")
    with pytest.raises(RequestError, match="200"):
        ib.reqContractDetails(contract)


def test_a_description_of_several_contracts_is_ambiguous(ib):
    code, text = refusal(ib, Future("ES", exchange="CME"), end="")
    assert (code, "ambiguous" in text) == (200, True)


def test_a_future_expires_on_the_third_friday_or_before_a_holiday():
    assert [expiry(2026, month) for month in (3, 6, 9, 12)] == [
        *(date(2026, 3, 20), date(2026, 6, 18), date(2026, 9, 18), date(2026, 12, 18)),
    ]
    assert expiry(2008, 3) == date(2008, 3, 20)  # the third Friday was Good Friday
    assert roll(expiry(2026, 6)) == date(2026, 6, 15)


# bars


def test_stocks_have_the_bars_of_the_sample_api(ib):
    with SampleApi(now=lambda: NOW) as api:
        held = api.market.range("AAPL", date(2013, 1, 7), date(2013, 1, 12))
        minutes = api.market.minutes(held, 5)
    found = bars(ib, AAPL)
    assert [(bar.date, bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in found] == [
        (bar.session, bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in held
    ]
    found = bars(ib, AAPL, size="5 mins", form=2)
    assert [(bar.date.timestamp(), bar.close, bar.volume, bar.barCount) for bar in found] == [
        (stamp / 1e9, close, volume, count)
        for stamp, close, volume, count in zip(minutes.time, minutes.close, minutes.volume, minutes.trades, strict=True)
    ]


def test_an_edited_bar_is_served_as_edited(gateway, ib):
    from sandbox.market.edits import Change

    gateway.edits.alter(date(2013, 1, 7), Change("IBM", 1.0, (), {"close": 1.0}))
    try:
        assert bars(ib, IBM)[0].close == 1.0
    finally:
        gateway.edits.clear_changes()


def test_dates_are_text_or_the_epoch_and_days_are_dates_always(ib):
    text, epoch = (bars(ib, IBM, duration="1 D", size="1 min", form=form) for form in (1, 2))
    assert str(text[0].date) == "2013-01-11 09:30:00-05:00"
    assert [bar.date for bar in text] == [bar.date for bar in epoch]
    assert epoch[0].date.tzinfo is UTC
    assert bars(ib, IBM, form=2)[0].date == date(2013, 1, 7)
    assert str(bars(ib, ES, end="", duration="1 D", size="1 min")[0].date) == "2026-11-19 17:00:00-06:00"


@pytest.mark.parametrize(
    ("duration", "first", "count"),
    [
        ("1 D", date(2013, 1, 11), 1),
        ("7 D", date(2013, 1, 3), 7),  # trading days
        ("1 W", date(2013, 1, 7), 5),
        ("1 M", date(2012, 12, 12), 21),
        ("1 Y", date(2012, 1, 12), calendar.sessions_count(date(2012, 1, 12), date(2013, 1, 12))),
    ],
)
def test_a_duration_counts_back_from_the_end(ib, duration, first, count):
    found = bars(ib, IBM, duration=duration)
    assert (found[0].date, found[-1].date, len(found)) == (first, date(2013, 1, 11), count)


@pytest.mark.parametrize("end", ["20130112 05:00:00 UTC", "20130112-05:00:00", "20130112 00:00:00", "20130111 18:00:00 US/Eastern"])
def test_an_end_may_be_written_in_several_ways(ib, end):
    assert [bar.date for bar in bars(ib, IBM, end=end, duration="1 D")] == [date(2013, 1, 11)]


def test_the_end_is_not_inside(ib):
    found = bars(ib, IBM, end="20130111 10:00:00 US/Eastern", duration="1800 S", size="5 mins")
    assert [f"{bar.date:%H:%M}" for bar in found] == ["09:30", "09:35", "09:40", "09:45", "09:50", "09:55"]


def test_extended_hours_come_without_regular_only(ib):
    regular, whole = (bars(ib, AAPL, duration="1 D", size="5 mins", regular=flag) for flag in (True, False))
    assert f"{whole[0].date:%H:%M}" == "04:00"
    assert {bar.date for bar in regular} < {bar.date for bar in whole}


def test_a_futures_day_begins_on_the_evening_before_and_is_on_the_contracts_ticks(ib):
    found = bars(ib, ES, end="20261103 18:00:00 US/Eastern", duration="2 D", size="1 min", form=2)
    assert len(found) == 2 * 1380
    assert found[0].date == datetime(2026, 11, 1, 23, tzinfo=UTC)  # Sunday
    assert all(price % 0.25 == 0 for bar in found for price in (bar.open, bar.high, bar.low, bar.close))
    days = bars(ib, ES, end="20261103 18:00:00 US/Eastern", duration="2 D")
    for day, part in zip(days, (found[:1380], found[1380:]), strict=True):
        assert (part[0].open, part[-1].close, sum(bar.volume for bar in part)) == (day.open, day.close, day.volume)
        assert (max(bar.high for bar in part), min(bar.low for bar in part)) == (day.high, day.low)
    evening = bars(ib, ES, end="20261104 00:00:00 US/Eastern", duration="2 D")
    assert evening[-1].date == date(2026, 11, 4)  # the next trading day has begun


def test_a_micro_is_priced_as_its_big_brother_and_a_later_contract_higher(ib):
    micro = Future("MES", "202612", "CME", currency="USD")
    later = Future("ES", "202703", "CME", currency="USD")
    close, small, far = (bars(ib, contract, end="", duration="1 D")[0].close for contract in (ES, micro, later))
    assert close == small < far


def test_an_index_has_no_volume_and_no_quotes(ib):
    assert [(bar.volume, bar.average, bar.barCount) for bar in bars(ib, VIX, duration="1 D")] == [(0, 0, 0)]
    assert {(bar.volume, bar.barCount) for bar in bars(ib, VIX, duration="1 D", size="5 mins")} == {(-1, -1)}
    quotes = bars(ib, IBM, duration="1 D", what="BID")
    assert (quotes[0].volume, quotes[0].average, quotes[0].barCount) == (-1, -1, -1)


def test_a_continuous_future_has_its_trailing_bars_only(ib):
    whole = bars(ib, ContFuture("ES", "CME"), end="", duration="2 D")
    assert [bar.close for bar in whole] == [bar.close for bar in bars(ib, ES, end="", duration="2 D")]
    assert refusal(ib, ContFuture("ES", "CME")) == (
        10339,
        "Setting end date/time for continuous future security type is not allowed.",
    )


def test_no_bars_are_error_162(ib):
    code, text = refusal(ib, IBM, end="19950101 00:00:00 UTC")
    assert (code, text) == (162, "Historical Market Data Service error message:HMDS query returned no data: IBM@SMART Trades")


@pytest.mark.parametrize(
    ("requested", "code", "text"),
    [
        ({"size": "7 mins"}, 321, "bar size setting is invalid"),
        ({"duration": "5"}, 321, "duration is invalid"),
        ({"duration": "0 D"}, 321, "duration is invalid"),
        ({"duration": "400 D"}, 321, "must be made in years"),
        ({"duration": "90000 S"}, 321, "must be made in days"),
        ({"what": "NOTHING"}, 321, "What to show"),
        ({"what": "ADJUSTED_LAST"}, 321, "End date/time not supported"),
        ({"end": "12.01.2013"}, 10314, "End Date/Time"),
        ({"end": "20130112 00:00:00 Nowhere/Land"}, 10314, "End Date/Time"),
    ],
)
def test_what_is_not_legal_is_refused(gateway, ib, requested, code, text):
    errors = []
    ib.errorEvent += lambda number, code, text, contract: errors.append((code, text))
    if code == 321:  # the library takes it for a warning and waits on
        requested = {"end": WEEK, "duration": "1 D", "size": "1 day", "what": "TRADES", **requested}
        found = ib.reqHistoricalData(
            IBM, requested["end"], requested["duration"], requested["size"], requested["what"], True, timeout=0.2
        )
        assert len(found) == 0
        while not errors:  # the time-out may come before the words
            ib.sleep(0.01)
        assert gateway.calls[0].status == 321
        assert errors[0][0] == 321
        assert text in errors[0][1]
    else:
        found, words = refusal(ib, IBM, **requested)
        assert (found, text in words) == (code, True)


# pacing


def test_no_rule_is_enforced_unless_told(gateway, ib):
    for _ in range(10):
        bars(ib, IBM)
    assert {call.status for call in gateway.calls} == {0}


@pytest.mark.parametrize(
    ("rules", "contracts", "statuses"),
    [
        (Rules((Window(2, 60),)), (IBM, AAPL, VIX), [0, 0, 162]),
        (Rules(per_contract=Window(2, 60)), (IBM, IBM, IBM, AAPL), [0, 0, 162, 0]),
        (Rules(identical=60), (IBM, IBM, AAPL), [0, 162, 0]),
    ],
)
def test_a_rule_is_enforced_with_error_162(gateway, ib, rules, contracts, statuses):
    gateway.rules = rules
    for place, contract in enumerate(contracts):
        with contextlib.suppress(RequestError):
            bars(ib, contract, duration=f"{1 if rules.identical else place + 1} D")
    assert [call.status for call in gateway.calls] == statuses
    ib.reqContractDetails(IBM)  # is under no rule
    assert gateway.calls[-1].status == 0


def test_a_violation_passes_with_time(gateway, ib, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(gateway, "_clock", lambda: clock[0])
    gateway.rules = RULES.scaled(0.01)  # identical requests: 0.15 s
    assert len(bars(ib, IBM)) == 5
    assert refusal(ib, IBM) == (162, "Historical Market Data Service error message:Historical data request pacing violation")
    clock[0] += 0.14
    assert refusal(ib, IBM)[0] == 162
    clock[0] += 0.2
    assert len(bars(ib, IBM)) == 5


# faults and the log


def test_faults_happen_to_what_they_match_and_as_often_as_told(gateway, ib):
    gateway.fault("refused", match="STK IBM", times=2, code=354, text="Requested market data is not subscribed.")
    assert len(bars(ib, AAPL)) == 5
    assert [refusal(ib, IBM)[0] for _ in range(2)] == [354, 354]
    assert len(bars(ib, IBM)) == 5
    assert [(call.symbol, call.status, call.fault) for call in gateway.calls] == [
        *(("AAPL", 0, None), ("IBM", 354, "refused"), ("IBM", 354, "refused"), ("IBM", 0, None)),
    ]


@pytest.mark.parametrize("kind", ["reset", "broken_off"])
def test_a_link_can_be_lost(gateway, ib, kind):
    gateway.fault(kind)
    with pytest.raises(ConnectionError):
        bars(ib, IBM)
    assert not ib.isConnected()


@pytest.mark.parametrize("kind", ["hang", "short", "garbage", "drifted"])
def test_the_library_takes_what_is_no_whole_response_for_none_after_its_time_out(gateway, ib, kind):
    """Why the hook reads every message before the library does."""
    gateway.fault(kind)
    assert len(ib.reqHistoricalData(IBM, WEEK, "5 D", "1 day", "TRADES", True, timeout=0.2)) == 0


@pytest.mark.parametrize(("kind", "options"), [("slow", {"seconds": 0.3}), ("trickle", {"seconds": 0.001})])
def test_a_response_can_be_slow_and_is_whole(gateway, ib, kind, options):
    gateway.fault(kind, **options)
    began = time.monotonic()
    assert len(bars(ib, IBM, duration="3 D")) == 3
    assert time.monotonic() - began > 0.1


def test_an_unknown_fault_or_option_is_refused_with_the_known_ones(gateway):
    with pytest.raises(ValueError, match="fault is 'fire'; allowed: refused, pacing"):
        gateway.fault("fire")
    with pytest.raises(ValueError, match="option of fault slow is 'minutes'; allowed: seconds"):
        gateway.fault("slow", minutes=1)


def test_a_cancelled_request_is_told_so(ib):
    errors = []
    ib.errorEvent += lambda number, code, text, contract: errors.append((number, code, text))
    ib.client.cancelHistoricalData(77)
    ib.sleep(0.1)
    assert errors == [(77, 162, "Historical Market Data Service error message:API historical data query cancelled: 77")]


# as a process


def test_it_runs_as_a_process_and_ends_with_0_on_a_signal(tmp_path):
    log = tmp_path / "calls.jsonl"
    command = [sys.executable, "-m", "sandbox.ib_gateway", "--port", "0", "--call-log", str(log), "--rules", "0.001"]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""})
    try:
        words = process.stdout.readline()
        assert words.startswith("sample gateway on 127.0.0.1:")
        client = IB()
        client.connect("127.0.0.1", int(words.rpartition(":")[2]), clientId=9)
        assert len(bars(client, AAPL)) == 5
        client.disconnect()
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    (call,) = read_call_log(log)
    assert (call.kind, call.symbol, call.client_id, call.duration, call.rows, call.status) == ("history", "AAPL", 9, "5 D", 5, 0)
    assert call.target == "history STK AAPL 1 day 5 D 20130112 00:00:00 US/Eastern"


def test_a_port_that_is_taken_is_reported(gateway):
    command = [sys.executable, "-m", "sandbox.ib_gateway", "--port", str(gateway.port)]
    ended = subprocess.run(command, check=False, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert f"sample gateway on port {gateway.port}: " in ended.stderr
