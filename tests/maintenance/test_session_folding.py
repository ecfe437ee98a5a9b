"""Compaction from and to session files keeps every row, at any moment, whatever it is killed at."""

from contextlib import suppress
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.core.errors import ConfigError
from market_data.datasets.registry import dataset
from market_data.lake.layout import Layout
from market_data.maintenance.compaction import Deletes, compact, recorded_hashes
from market_data.pipeline.selection import Selection
from tests.maintenance.lakes import DAYS, LAYOUT, NOW, OPEN, SELECTION, SYMBOLS, Killed, cells, contents, fill, mortal, read

GRAIN_OF = {"session": "day", "year": "session"}  # target -> source
CELLS = {(symbol, day): 1 for symbol in SYMBOLS for day in DAYS}


def closed(lake, grain):
    """The sessions of closed months that have objects of a grain."""
    found = (LAYOUT.parse(key) for key, _ in lake.list("raw"))
    return {one.session for one in found if one.grain == grain and (one.session.year, one.session.month) < OPEN}


@pytest.mark.parametrize("to", GRAIN_OF)
def test_files_of_closed_months_are_folded_once(to):
    with TemporaryDirectory() as folder:
        lake = mortal(f"file://{folder}/lake")
        fill(lake, [(GRAIN_OF[to], CELLS, 0, False)])
        before, number = read(lake), len(lake.list("raw"))
        dry = compact(lake, SELECTION, NOW, to=to, dry_run=True)
        assert (dry.day_files, len(lake.list("raw"))) == (18 if to == "session" else 6, number)
        done = compact(lake, SELECTION, NOW, to=to)
        assert (done.day_files, done.deleted) == (dry.day_files, dry.day_files)
        assert done.written == 6  # six sessions; three symbols in two years
        assert read(lake).equals(before)
        assert closed(lake, GRAIN_OF[to]) == set()
        assert all(recorded_hashes(lake, "ohlcv-1d", "polygon")[key] for key, _ in lake.list("raw") if "2023" in key)
        stored = contents(lake)
        again = compact(lake, SELECTION, NOW, to=to)
        assert (again.day_files, again.written, again.deleted, contents(lake)) == (0, 0, 0, stored)


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(st.sampled_from(["day", "session", "year"]), cells, st.integers(0, 3), st.booleans()), min_size=1, max_size=4
    ),
    st.integers(1, 10),
    st.booleans(),
    st.sampled_from(["session", "year"]),
)
def test_rows_are_the_same_at_every_step_of_a_fold_that_is_killed(steps, kill, after, to):
    with TemporaryDirectory() as folder:
        lake = mortal(f"file://{folder}/lake")
        fill(lake, steps)
        before = read(lake)

        def looks_the_same():
            assert read(lake).equals(before)

        lake.arm(kill, after=after, between=looks_the_same)
        with suppress(Killed):
            compact(lake, SELECTION, NOW, to=to)
        lake.arm(between=looks_the_same)
        compact(lake, SELECTION, NOW, to=to)
        assert read(lake).equals(before)
        assert closed(lake, "day") == set()
        assert to == "session" or closed(lake, "session") == set()


def test_a_session_file_replaced_while_it_is_folded_stays(monkeypatch):
    with TemporaryDirectory() as folder:
        lake = mortal(f"file://{folder}/lake")
        fill(lake, [("session", CELLS, 0, False)])
        original, seen = lake.delete_if, []

        def replaced(key, etag):
            if not seen:
                seen.append(key)
                fill(lake, [("session", {("A", DAYS[0]): 2}, 1, True)])
            return original(key, etag)

        monkeypatch.setattr(lake, "delete_if", replaced)
        done = compact(lake, SELECTION, NOW, to="year")
        assert [words for words in done.left if "replaced while it was folded" in words]
        assert closed(lake, "session") == {DAYS[0]}
        assert read(lake)["close"].to_pylist().count(2.0) == 1


def test_session_files_stay_where_symbols_are_selected_or_a_cell_waits(monkeypatch):
    with TemporaryDirectory() as folder:
        lake = mortal(f"file://{folder}/lake")
        fill(lake, [("session", CELLS, 0, False)])
        stored = contents(lake, "raw")
        some = compact(lake, Selection(SELECTION.dataset, "polygon", LAYOUT, ("A",)), NOW)
        assert contents(lake, "raw") == stored
        assert any("they hold all symbols" in words for words in some.left)
        monkeypatch.setattr("market_data.maintenance.foldable.Foldable.wait", lambda *_: True)
        assert sum("waits in staging" in words for words in compact(lake, SELECTION, NOW).left) == 6
        assert contents(lake, "raw") == stored


def test_session_files_are_deleted_by_the_next_run_where_readers_may_have_them_open():
    with TemporaryDirectory() as folder:
        lake = mortal(f"file://{folder}/lake")
        fill(lake, [("session", CELLS, 0, False)])
        assert compact(lake, SELECTION, NOW, deletes=Deletes.EARLIER).deleted == 0
        assert compact(lake, SELECTION, NOW, deletes=Deletes.EARLIER).deleted == 6


def test_only_grains_of_the_dataset_can_be_folded_into():
    with TemporaryDirectory() as folder:
        lake = mortal(f"file://{folder}/lake")
        with pytest.raises(ConfigError, match="for fundamentals allowed: year"):
            compact(lake, Selection(dataset("fundamentals"), "fmp", Layout()), NOW, to="session")
        with pytest.raises(ConfigError, match="'day'; for ohlcv-1d allowed: year, session"):
            compact(lake, SELECTION, NOW, to="day")
