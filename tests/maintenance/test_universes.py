"""Index files kept up to date: from a page over HTTP to the plan of a run."""

import json
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from market_data.config.indices import key_of
from market_data.config.run_params import RunParams
from market_data.config.universes import Member, read_members, write_members
from market_data.core.errors import ConfigError, ParamError, QualityError
from market_data.core.run import RunInfo
from market_data.core.symbol_changes import SymbolChange
from market_data.datasets.registry import dataset
from market_data.lake.coverage import CELLS
from market_data.lake.layout import Layout
from market_data.lake.ledger import write_cells
from market_data.lake.store import Lake
from market_data.lake.writer import land
from market_data.maintenance import journal, universes
from market_data.maintenance.index_plausibility import Limits
from market_data.maintenance.universes import Index, Terms, read_index_sources, update_universe
from market_data.pipeline import plan_run, universe_of
from market_data.pipeline.run_sessions import Wanted
from market_data.providers.mock.hook import MockHook
from market_data.providers.polygon.corporate_actions import TICKERS
from sandbox.index_pages import Change, Company, IndexPages, constituents_csv, memberships_csv, page
from tests.pipeline.runs import World, feed_of

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
DAY = NOW.date()
SMALL = Index("small", Limits(3, 12, 2), None, "MARKET_DATA_SP500_SOURCES", "MARKET_DATA_SP500_HISTORY")
COMPANIES = [
    Company("AAPL", "Apple", date(1982, 11, 30), "0000320193"),
    Company("FB", "Facebook", date(2013, 12, 23), "0001326801"),
    Company("GE", "General Electric", date(1957, 3, 4), "0000040545"),
    Company("IBM", "IBM", date(1957, 3, 4), "0000051143"),
    Company("NEW", "Newco", date(2015, 3, 2), "0000000005"),
]
CHANGES = [Change(date(2015, 3, 2), "NEW", "OLD")]
META = SymbolChange(date(2022, 6, 9), "FB", "META")
WRITE = Terms(dry_run=False)


@pytest.fixture
def lake(tmp_path):
    return Lake.open(f"file://{tmp_path}/lake")


@pytest.fixture
def server(monkeypatch):
    with IndexPages({"/page": page(COMPANIES, CHANGES), "/list.csv": constituents_csv(COMPANIES)}) as running:
        monkeypatch.setenv("MARKET_DATA_SP500_SOURCES", f"{running.url}/page {running.url}/list.csv")
        yield running


def update(lake, server=None, companies=None, changes=CHANGES, terms=WRITE, now=NOW, index=SMALL):
    if companies is not None:
        server.pages = {"/page": page(companies, changes), "/list.csv": constituents_csv(companies)}
    return update_universe(lake, index, read_index_sources(index), now, terms)


def members(lake, index=SMALL):
    return read_members(lake.get(key_of(index.name)).body.decode(), source="x")


def without(*symbols):
    return [one for one in COMPANIES if one.symbol not in symbols]


def objects(lake):
    return {key: lake.get(key).body for key, _ in lake.list("")}


def record(lake, *cells, source="polygon"):
    rows = pa.table([*zip(*((symbol, day, "have", "") for symbol, day in cells), strict=True)], schema=None, names=CELLS.names)
    write_cells(lake, "ohlcv-1d", source, RunInfo("x", "r", "manual", 0, NOW), "b0-1", rows.cast(CELLS))


# writing


def test_a_dry_run_shows_the_difference_and_writes_nothing(lake, server):
    done = update(lake, terms=Terms())
    assert (done.changed, done.written, done.diff.count) == (True, False, 5)
    assert "small: 5 members on 2026-11-29" in done.lines()[0]
    assert "not written (dry run)" in done.lines()[0]
    assert "  joined: NEW 2015-03-02" in done.lines()
    assert objects(lake) == {}


def test_an_update_writes_memberships_and_a_second_one_nothing(lake, server):
    assert update(lake).written
    assert members(lake) == (
        Member("AAPL", date(1982, 11, 30)),
        Member("FB", date(2013, 12, 23)),
        Member("GE", date(1957, 3, 4)),
        Member("IBM", date(1957, 3, 4)),
        Member("NEW", date(2015, 3, 2)),
        Member("OLD", None, date(2015, 3, 2)),
    )
    before = objects(lake)
    again = update(lake, now=NOW + timedelta(days=7))
    assert (again.changed, again.written, again.refused) == (False, False, False)
    assert "as before" in again.lines()[0]
    assert objects(lake) == before


def test_a_member_that_leaves_has_the_date_of_its_row(lake, server):
    update(lake)
    done = update(lake, server, without("GE"), [*CHANGES, Change(date(2026, 11, 23), "", "GE")])
    assert done.diff.left == {"GE": date(2026, 11, 23)}
    assert Member("GE", date(1957, 3, 4), date(2026, 11, 23)) in members(lake)


def test_a_member_that_is_merely_missing_leaves_on_the_day_of_the_update(lake, server):
    update(lake)
    assert update(lake, server, without("GE")).diff.left == {"GE": DAY}
    assert Member("GE", date(1957, 3, 4), DAY) in members(lake)


def test_the_second_source_replaces_the_first_and_keeps_the_past(lake, server):
    update(lake)
    server.faults["/page"] = "error_page"
    done = update(lake)
    assert done.address.endswith("/list.csv")
    assert not done.changed
    assert any("has no table of constituents" in text for text in done.sentences)
    assert Member("OLD", None, date(2015, 3, 2)) in members(lake)


def test_a_file_of_memberships_tells_the_past(lake, server, monkeypatch):
    rows = [("AAPL", date(1996, 1, 2), None), ("OLD", date(2001, 1, 2), date(2015, 3, 2)), ("NEW", date(2015, 3, 2), None)]
    rows += [(symbol, date(1996, 1, 2), None) for symbol in ("GE", "IBM")] + [("FB", date(2013, 12, 23), None)]
    server.pages["/past.csv"] = memberships_csv(rows)
    monkeypatch.setenv("MARKET_DATA_SP500_HISTORY", f"{server.url}/past.csv")
    assert update(lake).sentences == ()
    assert Member("OLD", date(2001, 1, 2), date(2015, 3, 2)) in members(lake)
    server.faults["/past.csv"] = "error_page"
    with pytest.raises(Exception, match="MARKET_DATA_SP500_HISTORY"):
        update(lake)


def test_a_stored_file_that_a_run_wrote_gets_the_real_dates(lake, server):
    lake.put_new(key_of("small"), write_members([Member(one.symbol, DAY) for one in COMPANIES], sources=False).encode())
    done = update(lake, terms=Terms(dry_run=False, overrule="first history", by="Ann"))
    assert Member("IBM", date(1957, 3, 4)) in members(lake)
    assert done.overruled  # five dates changed at once


# changes of symbols


def test_a_change_of_symbol_in_the_lake_is_no_leave_and_join(lake, server):
    update(lake)
    rename_in_lake(lake)
    renamed = [*without("FB"), Company("META", "Meta", date(2013, 12, 23), "0001326801")]
    done = update(lake, server, renamed)
    assert done.diff.renamed == {"FB": ("META", date(2022, 6, 9))}
    assert (done.diff.joined, done.diff.left, done.objections) == ({}, {}, ())
    assert {Member("FB", date(2013, 12, 23), date(2022, 6, 9)), Member("META", date(2022, 6, 9))} < set(members(lake))


@pytest.mark.parametrize("cik", ["0001326801", ""], ids=["same CIK", "same date"])
def test_a_change_of_symbol_that_only_the_source_shows_is_no_leave_and_join(lake, server, cik):
    update(lake)
    record(lake, ("FB", DAY - timedelta(days=2)))
    renamed = [*without("FB"), Company("META", "Meta", date(2013, 12, 23), cik)]
    done = update(lake, server, renamed)
    assert done.diff.renamed == {"FB": ("META", DAY)}
    assert (done.diff.joined, done.diff.left, done.objections) == ({}, {}, ())
    expected = {Member("FB", date(2013, 12, 23), DAY), Member("META", DAY)}
    assert expected < set(members(lake))
    before = objects(lake)
    for days in (7, 14):  # later, only the stored change of symbol tells it
        assert not update(lake, now=NOW + timedelta(days=days)).changed
    assert objects(lake) == before
    rename_in_lake(lake)  # the true date becomes known
    update(lake, now=NOW + timedelta(days=21))
    assert {Member("FB", date(2013, 12, 23), date(2022, 6, 9)), Member("META", date(2022, 6, 9))} < set(members(lake))


def test_classes_of_shares_of_one_company_are_not_taken_for_a_change_of_symbol(lake, server):
    both = [*COMPANIES, Company("GOOG", "Alphabet", date(2014, 4, 3), "0001652044")]
    update(lake, server, both)
    done = update(lake, server, [*both, Company("GOOGL", "Alphabet", date(2006, 4, 3), "0001652044")], terms=Terms())
    assert done.diff.renamed == {}
    assert done.diff.joined == {"GOOGL": date(2006, 4, 3)}


def test_a_killed_update_is_finished_by_the_next(lake, server, monkeypatch):
    update(lake)
    renamed = [*without("FB"), Company("META", "Meta", date(2013, 12, 23), "0001326801")]
    for count in (0, 1, 2):
        with monkeypatch.context() as patched:
            left = count

            def killed(key, revise, *, new=False, real=lake.update):
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return real(key, revise, new=new)

            patched.setattr(lake, "update", killed)
            with pytest.raises(KeyboardInterrupt):
                update(lake, server, renamed)
    update(lake, now=NOW + timedelta(days=7))
    assert {Member("FB", date(2013, 12, 23), DAY), Member("META", DAY)} < set(members(lake))


def rename_in_lake(lake):
    kind = dataset("symbol-changes")
    row = {
        "symbol": "META", "session": META.day, "effective_date": META.day, "old_symbol": "FB", "new_symbol": "META",
        "issuer": None, "withdrawn": None, "provider": "polygon", "ingest_ts": NOW,
    }  # fmt: skip
    land(lake, Layout(), kind, "polygon", pa.Table.from_pylist([row], schema=kind.schema), "day", refetch=False)
    rows = pa.table([["META"], [META.day], ["have"], [""]], names=CELLS.names).cast(CELLS)
    write_cells(lake, kind.name, "polygon", RunInfo("x", "r", "manual", 0, NOW), "b0-1", rows)


# refusals


REFUSED = {
    "too few": (COMPANIES[:2], CHANGES, "2 members; 3 to 12 are plausible"),
    "too many leave": ([*COMPANIES[:2], Company("GE", added=date(1957, 3, 4))], CHANGES, None),
    "too many join": ([*COMPANIES, *(Company(f"AB{c}", added=DAY) for c in "XYZ")], [*CHANGES, *(Change(DAY, f"AB{c}") for c in "XYZ")],
                      "3 join at once; at most 2"),
    "trades on": (without("GE"), CHANGES, r"1 leave without a row that says so, and trade on by the ledger: GE \(left 2026-11-29, traded"),
    "unknown": ([*COMPANIES, Company("ZZZQ", added=DAY, cik="0000000009")], CHANGES, "1 join that no ledger, universe or listing knows"),
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "too many leave"])
def test_an_implausible_update_is_refused_with_its_difference(lake, server, name):
    companies, changes, sentence = REFUSED[name]
    update(lake)
    record(lake, ("GE", DAY - timedelta(days=2)))
    before = objects(lake)
    done = update(lake, server, companies, changes)
    assert done.refused
    assert objects(lake) == before
    text = "\n".join(done.lines())
    assert "refused" in text
    assert "joined:" in text or "left:" in text
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(text)


def test_a_replaced_member_that_trades_on_is_plausible(lake, server):
    update(lake)
    record(lake, ("GE", DAY - timedelta(days=2)))
    assert update(lake, server, without("GE"), [*CHANGES, Change(date(2026, 11, 23), "AMZN", "GE")]).written


def test_a_joining_symbol_of_another_universe_is_known(lake, server):
    update(lake)
    assert update(lake, server, [*COMPANIES, Company("MSFT", added=date(1994, 6, 1))]).written


def test_a_person_overrules_with_a_reason_that_the_journal_keeps(lake, server):
    update(lake)
    terms = Terms(dry_run=False, overrule="a new index rule", by="Ann")
    with pytest.raises(ParamError, match="name"):
        Terms(overrule="without a name")
    companies, changes, _ = REFUSED["too few"]
    assert update(lake, server, companies, changes).refused
    assert update(lake, server, companies, changes, Terms(dry_run=True, overrule="a", by="Ann")).overruled
    assert list(journal.entries(lake)) == []
    done = update(lake, server, companies, changes, terms)
    assert (done.written, done.refused, done.overruled) == (True, False, True)
    (entry,) = journal.entries(lake, "universes")
    assert (entry.by, entry.reason, entry.what["index"]) == ("Ann", "a new index rule", "small")
    assert sorted(entry.what["left"]) == ["GE", "IBM", "NEW"]
    assert update(lake, server, companies, changes, terms).written is False  # nothing differs: no second entry
    assert len(list(journal.entries(lake))) == 1


def test_limits_are_params(lake, server):
    update(lake)
    companies, changes, _ = REFUSED["too few"]
    assert update(lake, server, companies, changes, Terms(False, least=2, changes=3)).written


# runs


@pytest.mark.parametrize("index_of_page", ["page", "memberships"])
def test_a_run_over_2012_plans_the_members_of_then(lake, server, tmp_path, monkeypatch, index_of_page):
    if index_of_page == "memberships":
        rows = [("OLD", date(2001, 1, 2), date(2015, 3, 2)), ("NEW", date(2015, 3, 2), None)]
        rows += [(symbol, date(1996, 1, 2), None) for symbol in ("AAPL", "GE", "IBM")] + [("FB", date(2013, 12, 23), None)]
        server.pages["/past.csv"] = memberships_csv(rows)
        monkeypatch.setenv("MARKET_DATA_SP500_HISTORY", f"{server.url}/past.csv")
    sp500 = Index("sp500", SMALL.limits, None, SMALL.sources, SMALL.past)
    from market_data.core import calendar
    from market_data.providers.base import ProviderConfig

    world = World(feed_of("mock_ohlcv_1d"), tmp_path, lambda: MockHook(ProviderConfig("mock_default", ""), options={}))
    update(world.lake, index=sp500)
    universe = universe_of(RunParams("index:sp500"), world.feed, lambda: world.lake)
    expected = {2012: {"AAPL", "GE", "IBM", "OLD"}, 2020: {"AAPL", "GE", "IBM", "FB", "NEW"}}
    for year, names in expected.items():
        days = calendar.sessions(date(year, 6, 25), date(year, 6, 30))
        with world.hook() as hook:
            planned = plan_run(world.context(), hook, Wanted(days), universe.symbols, world.now, universe.membership)
        asked = {
            symbol for batch in planned.plan.batches for request in batch.requests(batch.sessions) for symbol in request.symbols
        }
        assert asked == names


# listings


class Reference:
    """A provider's tickers by day."""

    def __init__(self, active, gone):
        self.active, self.gone, self.calls = active, gone, []

    def __call__(self, day, *, active=True):
        self.calls.append((day, active))
        rows = self.active[max(moment for moment in self.active if moment <= day)] if active else self.gone
        return pa.Table.from_pylist(
            [{"ticker": t, "name": t, "type": kind, "active": active, "cik": "5", "delisted": end} for t, kind, end in rows],
            schema=TICKERS,
        )


def listed(*names, kind="CS"):
    return [(name, kind, None) for name in names]


def test_a_listing_has_what_was_delisted_and_narrows_first_dates(lake):
    reference = Reference(
        {date(2000, 1, 3): listed("AAPL", "GE", "TWX"), date(2012, 6, 29): listed("AAPL", "GE", "FB", "TWX"),
         date(2026, 1, 2): [*listed("AAPL", "GE", "META", "BACpK"), ("W.WS", "WARRANT", None)]},
        [("TWX", "CS", date(2018, 6, 15)), ("META", "CS", date(2021, 2, 1)), ("FB", "CS", date(2022, 6, 9)), ("?", "CS", date(2001, 1, 2))],
    )  # fmt: skip
    reading = universes.read_listing(reference, DAY, [date(2000, 1, 3), date(2012, 6, 29)])
    assert len(reference.calls) == 4
    index = Index("listed", Limits(1, 100, 5))
    done = update_universe(lake, index, reading, NOW, WRITE)
    assert done.written
    assert set(members(lake, index)) == {
        Member("AAPL"),
        Member("GE"),
        Member("BAC.PRK", date(2012, 6, 30)),
        Member("TWX", None, date(2018, 6, 15)),
        Member("FB", date(2000, 1, 4), date(2022, 6, 9)),
        Member("META", date(2012, 6, 30), date(2021, 2, 1)),
        Member("META", date(2021, 2, 1)),
    }
    assert any("1 tickers are not symbols" in text for text in done.sentences)
    universe = universe_of(RunParams("index:listed"), feed_of("mock_ohlcv_1d"), lambda: lake)
    assert "TWX" in universe.symbols
    reference.active[date(2026, 1, 2)] += listed("IPO")
    done = update_universe(lake, index, universes.read_listing(reference, DAY), NOW, WRITE)
    assert done.refused  # nobody knows it, unless there is another witness
    done = update_universe(lake, index, universes.read_listing(reference, DAY), NOW, Terms(False, overrule="it is new", by="Ann"))
    assert done.diff.joined == {"IPO": DAY}


def test_a_delisted_symbol_that_trades_on_is_refused(lake):
    index, days = Index("listed", Limits(1, 100, 5)), {date(2000, 1, 3): listed("AAPL", "GE")}
    update_universe(lake, index, universes.read_listing(Reference(days, []), DAY), NOW, WRITE)
    record(lake, ("GE", date(2026, 11, 25)))
    gone = Reference({date(2000, 1, 3): listed("AAPL")}, [("GE", "CS", date(2026, 11, 20))])
    done = update_universe(lake, index, universes.read_listing(gone, DAY), NOW, WRITE)
    assert done.refused
    assert "GE (delisted 2026-11-20, traded 2026-11-25)" in done.objections[0]


# command and DAG


def test_unknown_indices_are_named():
    with pytest.raises(ParamError, match=r"index is 'sp50' \(did you mean sp500\?\); known: sp500, nasdaq100"):
        universes.index_of_name("sp50")


def test_a_damaged_stored_file_is_an_error_with_its_lines(lake, server):
    lake.put_new(key_of("small"), b"symbol,added_date,removed_date\nA,x,\n")
    with pytest.raises(ConfigError, match="line 2"):
        update(lake)


@pytest.mark.parametrize("scheduled", [False, True])
def test_the_task_writes_when_scheduled_or_told_to(tmp_path, server, monkeypatch, scheduled):
    from market_data.airflow.maintain.universes import maintain_universes, update_index

    monkeypatch.setenv("MARKET_DATA_LAKE", f"file://{tmp_path}/lake")
    params = maintain_universes().params.dump()
    assert params["dry_run"] is True
    params = {**params, "min_members": 1}
    found = update_index("sp500", params, scheduled=scheduled)
    json.dumps(found)
    lake = Lake.open(f"file://{tmp_path}/lake")
    assert (lake.get(key_of("sp500")) is not None) is scheduled
    server.pages["/page"] = page(COMPANIES[:1])
    if scheduled:
        with pytest.raises(QualityError, match=r"(?s)1 members; 2 to 515 are plausible.*To do: correct the source"):
            update_index("sp500", {**params, "min_members": 2}, scheduled=True)
