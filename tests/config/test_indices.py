"""Index files of the lake, and tickers files whose dates count."""

from datetime import date
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.config import indices, ticker_files, universes
from market_data.config.run_params import RunParams
from market_data.config.universes import Member, Universe
from market_data.core.errors import ParamError
from market_data.core.intervals import Interval
from market_data.lake.store import Lake
from market_data.pipeline import index_of, record_index, universe_of

DAY = date(2026, 11, 20)
JOIN = date(2022, 6, 9)
META = "symbol,added_date,removed_date\nAAPL,,\nFB,2012-05-18,2022-06-09\nMETA,2022-06-09,\n"


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


def universe(lake, **params):
    return universe_of(RunParams(**params), SimpleNamespace(universe="dow30"), lambda: lake)


@pytest.mark.parametrize(
    "header",
    [
        "#,Company,Symbol",
        "\ufeff#,Company,Symbol",
        '"#","Company","Symbol"',
        "# ,COMPANY, symbol ",
        "Rank,Name,Ticker",
        '\ufeff"No","Company","TICKER"',
        "#,Company,Ticker Symbol",
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("comment", ["", "# exported, by hand\n\n", "# symbol of the index\n"])
def test_a_header_in_any_form_is_a_header(header, delimiter, comment):
    rows = [header, "1,Apple Inc.,AAPL", '2,"Symbol",MSFT']
    text = comment.join(["", "\r\n".join(rows).replace(",", delimiter)]) if comment else "\n".join(rows).replace(",", delimiter)
    assert ticker_files.read_tickers(text, source="x") == (Member("AAPL"), Member("MSFT"))


@pytest.mark.parametrize("first", ["AAPL", "TICK", "SYM", "#comment\nAAPL", "AAPL # symbol, ticker"])
def test_a_first_row_of_data_is_not_a_header(first):
    found = ticker_files.read_tickers(f"{first}\nMSFT\n", source="x")
    assert len(found) == 2
    assert found[1] == Member("MSFT")


def test_columns_may_be_in_any_order_and_case():
    text = "Removed Date;TICKER;Added_Date\n2022-06-09;FB;2012-05-18\n;META;2022-06-09\n"
    assert ticker_files.read_tickers(text, source="x") == (Member("FB", date(2012, 5, 18), JOIN), Member("META", JOIN))
    assert universes.read_members(text, source="x") == (Member("FB", date(2012, 5, 18), JOIN), Member("META", JOIN))


def test_overlapping_dates_of_a_symbol_are_named_with_both_lines():
    with pytest.raises(ParamError, match="line 3: 'FB' occurs twice, first at x, line 2"):
        ticker_files.read_tickers("symbol,added_date,removed_date\nFB,2012-05-18,2022-06-09\nFB,2022-06-08,\n", source="x")
    with pytest.raises(ParamError, match="line 2: FB is removed on 2020-01-02, not after it was added on 2020-01-02"):
        ticker_files.read_tickers("symbol,added_date,removed_date\nFB,2020-01-02,2020-01-02\n", source="x")


def test_a_tickers_file_has_the_members_of_each_session(lake, tmp_path):
    file = tmp_path / "sp500_2024.csv"
    file.write_text(META)
    found = universe(lake, tickers_path=str(file))
    assert found.symbols == ("AAPL", "FB", "META")
    assert found.membership == {"FB": (Interval(date(2012, 5, 18), JOIN),), "META": (Interval(JOIN, date.max),)}


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [("2022-06-08", "AAPL FB"), ("2022-06-09", "AAPL META"), ("2012-05-17", "AAPL")],
)
def test_as_of_takes_the_members_of_one_date_for_all_sessions(lake, as_of, expected):
    lake.update("metadata/indices/sp500.csv", lambda _: META.encode(), new=True)
    found = universe(lake, universe="index:sp500", as_of=date.fromisoformat(as_of))
    assert found.symbols == tuple(expected.split())
    assert found.membership == {}


def test_as_of_without_members_is_refused(lake):
    lake.update("metadata/indices/x.csv", lambda _: META.replace("AAPL,,\n", "").encode(), new=True)
    with pytest.raises(ParamError, match="as_of is 2012-05-17; index x has no members on that date"):
        universe(lake, universe="index:x", as_of=date(2012, 5, 17))


def test_an_index_of_the_lake_is_a_universe(lake):
    lake.update("metadata/indices/sp500.csv", lambda _: b"\xef\xbb\xbf" + META.encode(), new=True)
    assert universe(lake, universe="index:sp500").symbols == ("AAPL", "FB", "META")
    with pytest.raises(ParamError) as caught:
        universe(lake, universe="index:sp50")
    assert caught.value.problems == ("universe is 'index:sp50' (did you mean sp500?); known indices: sp500",)


def test_symbols_have_no_membership(lake):
    assert universe(lake, symbols=("FB", "META")) == Universe("symbols", (Member("FB"), Member("META")))
    assert universe(lake, symbols=("FB", "META")).membership == {}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/sp500_2024.csv", "sp500"),
        ("s3://b/SP500-2024-09-30.CSV", "sp500"),
        ("sp500_20240930.csv", "sp500"),
        ("sp500.2024-09.txt", "sp500"),
        ("russell_2000.csv", "russell_2000"),
        ("russell2000_2024.csv", "russell2000"),
        ("nikkei_225.csv", "nikkei_225"),
        ("My List.csv", "my_list"),
        ("2024.csv", "2024"),
        ("---.csv", None),
    ],
)
def test_the_name_of_an_index_may_come_from_the_file(path, name):
    assert indices.name_of_file(path) == name
    if name:
        assert index_of(RunParams(tickers_path=path, index_name="auto")) == name
    assert index_of(RunParams(tickers_path=path, index_name="mine")) == "mine"
    assert index_of(RunParams(tickers_path=path)) is None


def test_dates_of_members_are_stored_and_earlier_memberships_kept(lake):
    key = "metadata/indices/sp500.csv"
    stored = "symbol,added_date,removed_date\nFB,2001-01-02,2003-01-02\nFB,2020-01-02,\nGONE,2001-01-02,\n"
    lake.update(key, lambda _: stored.encode(), new=True)
    members = ticker_files.read_tickers(META, source="x")
    record_index(lake, "sp500", members, DAY)
    text = lake.get(key).body.decode()
    assert text == (
        "symbol,added_date,removed_date\nAAPL,2026-11-20,\nFB,2001-01-02,2003-01-02\nFB,2012-05-18,2022-06-09\n"
        "GONE,2001-01-02,2026-11-20\nMETA,2022-06-09,\n"
    )
    assert record_index(lake, "sp500", members, date(2026, 11, 21)).endswith("2 members, as before")
    assert record_index(lake, "sp500", universe(lake, universe="index:sp500").members, DAY).endswith("as before")


def test_a_symbol_removed_and_added_on_one_day_stays_a_member():
    text = "symbol,added_date,removed_date\nA,2020-01-02,\nB,2020-01-02,\n"
    without = indices.update_index(text, ["A"], DAY, source="x").text
    assert indices.update_index(without, ["A", "B"], DAY, source="x").text == text


days = st.dates(date(2000, 1, 1), date(2030, 1, 1))


@given(
    st.lists(st.tuples(st.sampled_from("ABC"), days, st.none() | days), max_size=4), st.lists(st.sampled_from("ABC"), max_size=3)
)
def test_no_past_membership_is_lost(stored, given_symbols):
    rows = {symbol: Member(symbol, added, removed) for symbol, added, removed in stored if removed is None or added < removed}
    text = universes.write_members(rows.values(), sources=False)
    revised = indices.update_index(text, set(given_symbols), DAY, source="x").text or text
    after = universes.read_members(revised, source="x")
    for row in rows.values():
        for day in (row.added, min(row.removed or DAY, DAY)):
            if row.on(day) and day < DAY:
                assert any(other.symbol == row.symbol and other.on(day) for other in after)
