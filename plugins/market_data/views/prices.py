"""Bars of a symbol for page Prices, from the lake: with closes of other sources, raw or adjusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from market_data.config.feeds import load_feeds
from market_data.config.layouts import layout_of
from market_data.core.calendar import DAY
from market_data.core.errors import MarketDataError, ParamError
from market_data.core.messages import counted, shown
from market_data.datasets.bars import PRICES
from market_data.datasets.registry import dataset
from market_data.lake.reader import read_rows, stored_symbols
from market_data.pipeline.selection import Selection, recorded_sources
from market_data.views.places import empty_note
from market_data.views.price_gold import factors_of
from market_data.views.price_marks import marks_of

if TYPE_CHECKING:
    from market_data.lake.store import Lake
    from market_data.views.places import Place
    from market_data.views.price_gold import Factors, OpenWarehouse
    from market_data.views.price_range import Chosen

RAW, SPLITS, ALL = "none", "splits", "all"
ADJUST = (RAW, SPLITS, ALL)
"""Prices as the vendor gave them; adjusted for splits; for splits and dividends."""

Readable = Callable[[str], bool]
"""Tells if the user may see the feed with that DAG id."""


def sources_of(lake: Lake, name: str, readable: Readable) -> dict[str, Selection]:
    """Return source -> its part of the lake, for a dataset (by name) and the feeds that the user may see."""
    found: dict[str, Selection] = {}
    for feed in load_feeds():
        if feed.dataset == name and readable(feed.dag_id):
            for source in recorded_sources(lake, feed):
                found.setdefault(source, Selection(dataset(name), source, layout_of(feed)))
    return dict(sorted(found.items()))


def head_of(place: Place, readable: Readable) -> dict[str, Any]:
    """Return what can be chosen of a place: symbols, and other sources of the same bars."""
    selection, records = place.selection, place.records()
    numbers, _ = records.cells
    symbols = sorted(records.symbols[number] for number in np.unique(numbers).tolist())
    others = [source for source in sources_of(place.lake, selection.dataset.name, readable) if source != place.source]
    return {
        "feed": place.feed.dag_id,
        "source": place.source,
        "sources": list(place.sources),
        "timeframe": selection.dataset.timeframe,
        "symbols": symbols or stored_symbols(place.lake, selection.layout, selection.dataset, place.source),
        "others": others,
        "notes": list(empty_note(place.lake)),
    }


def prices_of(
    chosen: Chosen, over: Sequence[str], adjust: str, readable: Readable, open_warehouse: OpenWarehouse, now: datetime
) -> dict[str, Any]:
    """Return the bars of a range, marks, and closes of other sources.

    :param over: sources whose closes are returned as lines.
    :param adjust: one of ``ADJUST``. If the factors cannot be read, prices are raw, and a note says so.
    :return: ``bars``: columns ``time`` (as ``Chosen.clock``), open, high, low, close, volume (null if unknown); ``lines``: ``source``,
        ``time``, ``close``; ``marks`` as ``marks_of`` returns them; ``adjust``: how the prices are adjusted; ``notes``.
    :raises ParamError: if a source or ``adjust`` is unknown. LakeError: if the lake cannot be read.
    """
    if adjust not in ADJUST:
        raise ParamError([f"adjust is {shown(adjust)}; allowed: {', '.join(ADJUST)}"])
    lake, source = chosen.place.lake, chosen.place.source
    known = sources_of(lake, chosen.dataset.name, readable) if over else {}
    if unknown := [name for name in over if name not in known or name == source]:
        names = ", ".join(name for name in known if name != source) or "none"
        raise ParamError([f"over is {shown(unknown[0])}; other sources of {chosen.dataset.name} in the lake: {names}"])
    wanted = {source: chosen.place.selection, **{name: known[name] for name in over}}
    notes = list(chosen.notes)
    raw = {name: _priced(_read(chosen, selection), name, notes) for name, selection in wanted.items()}
    marks = marks_of(chosen, sources_of(lake, "corporate-actions", readable), raw[source], now)
    tables, done = (raw, RAW) if adjust == RAW else _adjusted(chosen, raw, adjust, open_warehouse, notes)
    own = tables.pop(source)
    return {
        "symbol": chosen.symbol,
        "first": chosen.first.isoformat(),
        "last": chosen.last.isoformat(),
        "zone": chosen.zone_name,
        "adjust": done,
        "bars": {"time": _times(chosen, own), **{name: own[name].to_pylist() for name in (*PRICES, "volume")}},
        "lines": [
            {"source": name, "time": _times(chosen, rows), "close": rows["close"].to_pylist()} for name, rows in tables.items()
        ],
        "marks": marks,
        "notes": notes,
    }


def adjusted(rows: pa.Table, factors: Factors) -> pa.Table:
    """Return the bars of sessions with factors: prices times the one, volumes divided by the other."""
    found = [factors.get(session) for session in rows["session"].to_pylist()]
    rows = rows.filter(pa.array([one is not None for one in found], pa.bool_()))
    price, split = (pa.array([one[place] for one in found if one is not None], pa.float64()) for place in (0, 1))
    columns: Mapping[str, Any] = {
        **{name: pc.multiply(rows[name], price) for name in PRICES},
        "volume": pc.divide(rows["volume"], split),
    }
    for name, column in columns.items():
        rows = rows.set_column(rows.schema.get_field_index(name), name, column)
    return rows


def _read(chosen: Chosen, selection: Selection) -> pa.Table:
    place = (chosen.place.lake, selection.layout, selection.dataset, selection.source)
    return read_rows(*place, [chosen.symbol], chosen.first, chosen.last + DAY)


def _priced(rows: pa.Table, source: str, notes: list[str]) -> pa.Table:
    """Return the bars whose prices are numbers: a lake that was adopted may have others. JSON has no NaN."""
    numbers = [pc.fill_null(pc.is_finite(rows[name]), False) for name in PRICES]
    kept = rows.filter(pc.and_(pc.and_(numbers[0], numbers[1]), pc.and_(numbers[2], numbers[3])))
    if left := len(rows) - len(kept):
        notes.append(f"{source}: {counted(left, 'bar')} without all four prices cannot be shown")
    place = kept.schema.get_field_index("volume")
    volume = pc.if_else(pc.fill_null(pc.is_finite(kept["volume"]), False), kept["volume"], pa.scalar(None, pa.float64()))
    return kept.set_column(place, "volume", volume)


def _adjusted(
    chosen: Chosen, raw: Mapping[str, pa.Table], adjust: str, open_warehouse: OpenWarehouse, notes: list[str]
) -> tuple[dict[str, pa.Table], str]:
    """Return the tables adjusted, or as they are, and how they are adjusted."""
    try:
        with open_warehouse() as opened:
            factors = {source: factors_of(chosen, source, adjust, opened) for source in raw}
    except MarketDataError as error:
        notes.append(f"prices are raw, because the factors are in the warehouse, which cannot be read: {error}")
        return dict(raw), RAW
    found = {source: adjusted(rows, factors[source]) for source, rows in raw.items()}
    for source, rows in found.items():
        if left := len(raw[source]) - len(rows):
            notes.append(
                f"{source}: {counted(left, 'bar')} cannot be adjusted and are left out: "
                "the warehouse lacks corporate actions of this source, or daily bars, for these sessions"
            )
    return found, adjust


def _times(chosen: Chosen, rows: pa.Table) -> list[int]:
    return [chosen.clock(moment) for moment in rows["bar_time"].to_pylist()]
