"""Pages and CSV files of an index: every variant is read alike, every fault is an error that names the address."""

import contextlib
import time
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.errors import ConfigError, ProviderError, RetriableError
from market_data.core.retry_policy import RetryPolicy
from market_data.maintenance.index_sources import cells, download
from market_data.maintenance.index_sources.csv_lists import read_csv
from market_data.maintenance.index_sources.download import SourceRefused, SourcesFailed, first_usable
from market_data.maintenance.index_sources.found import UnusableSource
from market_data.maintenance.index_sources.pages import read_page
from sandbox.index_pages import Change, Company, IndexPages, constituents_csv, memberships_csv, page
from sandbox.index_pages.pages import VARIANTS
from sandbox.index_pages.server import FAULTS, FORBIDDEN
from tests.providers.bodies import bodies

COMPANIES = [
    Company("AAPL", "Apple Inc.", date(1982, 11, 30), "0000320193"),
    Company("BRK.B", "Berkshire Hathaway", date(2010, 2, 16), "0001067983"),
    Company("MMM", "3M", date(1957, 3, 4), "0000066740"),
]
CHANGES = [
    Change(date(2024, 9, 23), "PLTR", "AAL"),
    Change(date(2024, 9, 23), "DELL", "ETSY"),
    Change(date(2024, 9, 23), "", "BIO"),
    Change(date(2012, 6, 29), "ALXN", "SVU", reason="SVU spun off, and more"),
]
ONCE = RetryPolicy(attempts=1)
SETTING = "MARKET_DATA_SP500_SOURCES"


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_a_page_are_read_alike(variant):
    found = read_page(page(COMPANIES, CHANGES, variant).encode())
    assert [(one.symbol, one.name, one.added, one.cik) for one in found.constituents] == [
        (one.symbol, one.name, one.added, one.cik) for one in COMPANIES
    ]
    assert [(row.day, row.added, row.removed) for row in found.changes] == [
        (row.day, row.added, row.removed) for row in sorted(CHANGES, key=lambda row: row.day, reverse=True)
    ]
    assert found.changes[-1].reason == "SVU spun off, and more"
    assert found.warnings == ()


def table(head, *rows):
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    names = "".join(f"<th>{name}</th>" for name in head)
    return f"<html><title>A page</title><table id=constituents><tr>{names}</tr>{cells}</table></html>"


def test_ciks_keep_their_leading_zeros_and_get_lost_ones_back():
    found = read_page(table(["Symbol", "CIK"], ["MMM", "0000066740"], ["AOS", "91142"], ["X", "none"]).encode())
    assert [one.cik for one in found.constituents] == ["0000066740", "0000091142", ""]
    assert read_csv(constituents_csv(COMPANIES)).constituents[2].cik == "0000066740"


@pytest.mark.parametrize(
    ("cell", "symbols"),
    [
        ("GOOGL / GOOG", ["GOOGL", "GOOG"]),
        ("GOOGL<br/>GOOG", ["GOOGL", "GOOG"]),
        ("FOXA, FOX", ["FOXA", "FOX"]),
        ("NWSA/NWS", ["NWSA", "NWS"]),
        ("NWSA &amp; NWS", ["NWSA", "NWS"]),
        ("BRK/B", ["BRK.B"]),
        ("BF-B", ["BF.B"]),
        ("BRK B", ["BRK.B"]),
        ("NYSE:&nbsp;MMM", ["MMM"]),
        ("NASDAQ: <a>AA&shy;PL</a>", ["AAPL"]),
        ("AAPL<sup>[1]</sup>", ["AAPL"]),
        ("AAPL[a]", ["AAPL"]),
        ("&#8203;AAPL&#8206;", ["AAPL"]),
    ],
)
def test_symbols_of_a_cell(cell, symbols):
    found = read_page(table(["Company", "Ticker symbol"], ["A company", cell]).encode())
    assert [one.symbol for one in found.constituents] == symbols


@pytest.mark.parametrize(
    "text",
    [
        *("2024-09-23", "September 23, 2024", "Sept. 23, 2024", "Sep 23 2024", "23 September 2024", "September 23,\n2024"),
        *("9/23/2024", "September\xa023, 2024[5]", "September 23rd, 2024", "2024-09-23 (announced 2024-09-06)"),
    ],
)
def test_dates_of_a_cell(text):
    assert cells.day_of(text) == date(2024, 9, 23)


@pytest.mark.parametrize("text", ["", "1957", "September 2024", "—", "soon"])
def test_incomplete_dates_are_unknown(text):
    assert cells.day_of(text) is None


def test_rows_that_cannot_be_read_are_reported_and_the_others_read():
    text = table(["Symbol", "Company"], ["AAPL", "Apple"], ["not listed yet", "Newco"], ["AAPL", "Apple"])
    found = read_page(text.encode())
    assert [one.symbol for one in found.constituents] == ["AAPL"]
    assert "row 2: 'not listed yet' is not a symbol (company 'Newco')" in found.warnings[0]
    assert "AAPL occurs twice" in found.warnings[1]
    changes = "<table id=changes><tr><th>Date<th>Added ticker<th>Removed ticker</tr><tr><td>31 June 2024<td>A<td>B</tr></table>"
    found = read_page(table(["Symbol"], ["AAPL"]).replace("</html>", f"{changes}</html>").encode())
    assert found.changes == ()
    assert "'31 June 2024' is not a date" in found.warnings[0]


def test_csv_of_memberships_is_read():
    rows = [("AAL", date(1996, 1, 2), date(1997, 1, 15)), ("AAL", date(2015, 3, 23), None)]
    found = read_csv(memberships_csv(rows) + "BAD,2020-05-01,2020-04-01\nNO DATE,x,y\n")
    assert [(row.symbol, row.added, row.removed) for row in found.memberships] == rows
    assert len(found.warnings) == 2


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "Symbol\n", "<html>Error</html>"])
def test_other_files_are_not_lists(text):
    with pytest.raises(UnusableSource):
        read_csv(text)


# over the network


@pytest.fixture
def server():
    with IndexPages({"/wiki/sp500": page(COMPANIES, CHANGES)}) as running:
        yield running


@pytest.fixture
def other_server():
    with IndexPages({"/sp500.csv": constituents_csv(COMPANIES)}) as running:
        yield running


def test_a_request_has_a_user_agent(server):
    found = first_usable("sp500", [f"{server.url}/wiki/sp500"], SETTING, retry=ONCE)
    assert len(found.found.constituents) == 3
    ((_, agent),) = server.requests
    assert agent.startswith("airflow-market-data/")


def test_without_a_user_agent_the_error_has_the_servers_words(server, monkeypatch):
    monkeypatch.setattr(download, "user_agent", lambda: "python-requests/2")
    with pytest.raises(SourceRefused, match=f"(?s){server.url}/wiki/sp500.*403.*{FORBIDDEN}.*{SETTING}|{SETTING}.*403"):
        first_usable("sp500", [f"{server.url}/wiki/sp500"], SETTING, retry=ONCE)


@pytest.mark.parametrize("fault", FAULTS)
def test_after_a_fault_the_next_source_is_read(server, other_server, fault):
    server.faults["/wiki/sp500"] = fault
    began = time.monotonic()
    addresses = [f"{server.url}/wiki/sp500", f"{other_server.url}/sp500.csv"]
    found = first_usable("sp500", addresses, SETTING, retry=ONCE)
    assert found.address == addresses[1]
    assert len(found.failed) == 1
    assert found.failed[0].startswith(addresses[0])
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_only_source_is_an_error_that_names_address_and_setting(server, fault):
    server.faults["/wiki/sp500"] = fault
    with pytest.raises((SourcesFailed, SourceRefused)) as caught:
        first_usable("sp500", [f"{server.url}/wiki/sp500"], SETTING, retry=ONCE)
    assert f"{server.url}/wiki/sp500" in str(caught.value)
    assert SETTING in str(caught.value)
    assert "To do:" in str(caught.value)


def test_without_a_network_the_error_names_the_address():
    with pytest.raises(RetriableError, match="http://127.0.0.1:9/wiki.*no response from 127.0.0.1:9"):
        first_usable("sp500", ["http://127.0.0.1:9/wiki"], SETTING, retry=ONCE)


def test_a_file_is_a_source(tmp_path):
    (tmp_path / "a list.csv").write_text(constituents_csv(COMPANIES))
    assert len(first_usable("sp500", [f"file://{tmp_path}/a%20list.csv"], SETTING).found.constituents) == 3
    with pytest.raises(SourceRefused, match=r"gone.csv.*No such file"):
        first_usable("sp500", [f"file://{tmp_path}/gone.csv"], SETTING)


@pytest.mark.parametrize("address", ["ftp://x/y", "wiki", "https://", "https://user:secret@host/x"])
def test_invalid_addresses_are_refused_without_showing_secrets(address):
    with pytest.raises(ConfigError) as caught:
        first_usable("sp500", [address], SETTING)
    assert "secret" not in str(caught.value)


@given(bodies([page(COMPANIES, CHANGES, variant).encode() for variant in VARIANTS]))
def test_damaged_pages_are_read_or_refused(body):
    try:
        found = read_page(body)
    except UnusableSource:
        return
    assert found.constituents


@given(st.sampled_from(["<table>", "<td rowspan=1000 colspan=1000>", "<!--", "<a href='", "&#", "<tr>", "<sup>", "<br>"]))
def test_time_does_not_explode(piece):
    body = (page(COMPANIES).replace("</html>", "") + piece * (1_000_000 // len(piece)) + "</html>").encode()
    began = time.monotonic()
    with contextlib.suppress(UnusableSource):
        read_page(body)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("name", ["SourceRefused", "SourcesFailed"])
def test_errors_cross_process_boundaries(name):
    import pickle

    error = getattr(download, name)("text", provider="index sp500")
    assert isinstance(error, ProviderError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
