from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_data.core.outcome import Verdict
from market_data.quality.verdicts import allowed, parse, partition_of, session_of, verdict_of, year_partitions

SYMBOLS = st.sampled_from(["A", "BRK/B", "BRK/B/2016", "2016", "2016-03-04", "BRK", "B", "/", "Å/1", "a b"])
SESSIONS = st.dates(date(2015, 12, 28), date(2017, 1, 3))
CELLS = st.lists(st.tuples(SYMBOLS, SESSIONS), max_size=30)


def rows(cells):
    return pa.table(
        {"symbol": pa.array([c[0] for c in cells], pa.string()), "session": pa.array([c[1] for c in cells], pa.date32())}
    )


@given(SYMBOLS, SESSIONS)
def test_a_symbol_year_is_split_at_its_last_slash(symbol, session):
    assert parse(partition_of(symbol, session)) == (symbol, session.year)
    assert session_of(partition_of(symbol, session)) is None
    assert parse(session.isoformat()) == session_of(session.isoformat()) == session


@pytest.mark.parametrize("wrong", ["", "AAPL", "/2016", "AAPL/", "AAPL/x", "AAPL/-1", "2016-13-01"])
def test_an_invalid_partition_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"partition is|isoformat|month must be"):
        parse(wrong)


@given(CELLS)
def test_rows_are_named_like_single_cells(cells):
    assert year_partitions(rows(cells)).to_pylist() == [partition_of(*cell) for cell in cells]


@given(CELLS, st.lists(st.one_of(SESSIONS.map(date.isoformat), st.builds(partition_of, SYMBOLS, SESSIONS))))
def test_allowed_rows_are_in_no_refused_partition(cells, refused):
    verdicts = {name: Verdict(name, passed=False) for name in refused}
    expected = [cell for cell in cells if not {cell[1].isoformat(), partition_of(*cell)} & set(refused)]
    kept = allowed(rows(cells), iter(refused))
    assert list(zip(kept["symbol"].to_pylist(), kept["session"].to_pylist(), strict=True)) == expected
    assert [cell for cell in cells if verdict_of(verdicts, *cell) is None] == expected


def test_the_verdict_on_the_session_goes_first():
    session, year = Verdict("2016-03-04", passed=False), Verdict("BRK/B/2016", passed=False)
    both = {v.partition: v for v in (session, year)}
    assert verdict_of(both, "BRK/B", date(2016, 3, 4)) is session
    assert verdict_of(both, "BRK/B", date(2016, 3, 7)) is year
    assert verdict_of(both, "BRK", date(2016, 3, 7)) is None


def test_chunked_rows_with_encoded_symbols_are_matched():
    table = rows([("A", date(2016, 1, 4)), ("B", date(2016, 1, 4)), ("A", date(2017, 1, 3))])
    encoded = table.set_column(0, "symbol", table["symbol"].dictionary_encode())
    pieces = pa.concat_tables([encoded.slice(0, 1), encoded.slice(1)])
    assert allowed(pieces, ["A/2016"])["session"].to_pylist() == [date(2016, 1, 4), date(2017, 1, 3)]
    assert allowed(pieces, []) is pieces
