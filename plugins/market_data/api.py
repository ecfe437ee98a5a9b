"""Read, check and estimate from a notebook or a job: ``market_data.read``, ``coverage``, ``plan``.

None of it imports Airflow.

``pip install airflow-market-data[read]`` is enough for ``read`` and ``coverage``, ``[plan]`` for ``plan``. The lake is
``MARKET_DATA_LAKE`` unless ``lake`` names another. S3 credentials, region and endpoint come from the usual ``AWS_*`` variables.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from market_data.core import calendar, settings
from market_data.core.dates import read_date
from market_data.core.errors import ConfigError, ParamError
from market_data.core.instruments import by_calendar
from market_data.core.intervals import IntervalSet, closed, intersection
from market_data.core.messages import shown

if TYPE_CHECKING:
    import pyarrow as pa

    from market_data.config.feeds import Feed
    from market_data.core.run import IsRunning
    from market_data.core.symbol_changes import NamedSpan
    from market_data.datasets.base import Dataset
    from market_data.lake.coverage import Coverage
    from market_data.lake.layout import Layout
    from market_data.lake.store import Lake
    from market_data.providers.base import ProviderHook

To = Literal["arrow", "pandas", "polars", "duckdb"]
Day = date | str
MISSING = "missing"
"""The state of a cell that coverage does not know: the next run fetches it."""


def read(
    symbols: str | Sequence[str],
    start: Day,
    end: Day,
    *,
    dataset: str = "ohlcv-1d",
    provider: str | None = None,
    as_of: datetime | None = None,
    columns: Sequence[str] | None = None,
    follow_renames: bool = False,
    to: To = "arrow",
    lake: str | Lake | None = None,
) -> Any:
    """Return the current rows of ``symbols`` from ``start`` to ``end`` (both inclusive), sorted by key.

    Corporate actions that the vendor has withdrawn are left out.

    :param start: exchange date, or ISO text. Times in the rows are UTC; prices are as the vendor gave them, not adjusted.
    :param provider: may be left out where one feed alone serves the dataset. ``alpaca~iex`` names an option that changes values.
    :param as_of: aware; only rows whose values were known at that moment. The lake holds the current values only: of a bar that was
        corrected since, nothing is returned, and a warning counts such rows. ``bronze_prices`` of the warehouse has every version.
    :param columns: only these, in this order; None: all columns of the dataset.
    :param follow_renames: return the rows of the companies that have ``symbols`` on ``end``, or had them last, under all names they had:
        of META also those of FB until 2022-06-08. Rows keep the symbol they were traded under and are sorted by company, then by time.
        The names are those of the dataset ``symbol-changes`` in the lake, whichever provider reported them.
    :param to: ``arrow`` (``pyarrow.Table``), ``pandas``, ``polars``, or ``duckdb`` (a relation).
    :param lake: its URL, or an open one.
    :raises ParamError: a symbol, date, column or ``to`` is wrong.
    :raises ConfigError: the dataset, provider or lake is unknown.
    :raises LakeError: the store fails.
    """
    import pyarrow as pa

    from market_data.datasets.registry import dataset as find_dataset
    from market_data.lake.reader import read_rows
    from market_data.lake.symbol_changes import without_withdrawn

    names, first, last = _symbols(symbols), _day("start", start), _day("end", end)
    convert = _converter(to)
    found = find_dataset(dataset)
    chosen = _columns(found, columns)
    if as_of is not None and as_of.tzinfo is None:
        raise ParamError([f"as_of is {as_of}, without a time zone; an aware datetime is needed"])
    source, layout = _place(provider, dataset)
    opened, after = open_lake(lake), last + timedelta(days=1)
    if follow_renames:
        spans = (span for company in _companies(opened, names, last) for span in company)
        inside = [(span.symbol, max(span.start, first), min(span.end, after)) for span in spans]
        parts = [read_rows(opened, layout, found, source, [name], *days) for name, *days in inside if days[0] < days[1]]
        rows = pa.concat_tables([found.schema.empty_table(), *parts])
    else:
        rows = read_rows(opened, layout, found, source, names, first, after)
    rows = without_withdrawn(rows, found)
    if as_of is not None:
        rows = _known_at(rows, as_of)
    return convert(rows.select(chosen))


def members_of(feed: Feed, start: date, end: date, lake: Lake) -> Mapping[str, IntervalSet]:
    """Return the symbols of a feed's universe from ``start`` to ``end`` (inclusive), with their dates.

    The dates are those of the membership in that span.

    :raises ParamError: the lake has no such index.
    """
    from market_data.config.run_params import RunParams
    from market_data.pipeline import universe_of

    universe, span = universe_of(RunParams(universe=feed.universe), feed, lambda: lake), closed(start, end)
    dates = {symbol: intersection(universe.membership.get(symbol, (span,)), (span,)) for symbol in universe.symbols}
    return {symbol: inside for symbol, inside in dates.items() if inside}


def coverage(
    symbols: str | Sequence[str] | Mapping[str, IntervalSet],
    start: Day,
    end: Day,
    *,
    dataset: str = "ohlcv-1d",
    provider: str | None = None,
    to: To = "arrow",
    lake: str | Lake | None = None,
) -> Any:
    """Return the state and reason of each cell from ``start`` to ``end`` (both inclusive).

    One row per symbol and session.

    :param symbols: a mapping has the dates of each symbol; other dates have no row.
    Columns: symbol, session (date32), state, reason, recorded_at (UTC). ``state`` is ``have``, ``empty`` (final: there is no bar),
    ``pending``, ``quarantined``, ``refused``, ``released`` (a person let it pass: the bar is loaded), or ``missing`` where nothing is
    recorded yet.

    :raises ParamError: a symbol, date or ``to`` is wrong.
    :raises ConfigError: the dataset, provider or lake is unknown.
    :raises LakeError: the store fails.
    """
    import pyarrow as pa

    from market_data.lake.ledger import read_coverage
    from market_data.providers.registry import calendar_of_source

    names = _symbols(list(symbols) if isinstance(symbols, Mapping) else symbols)
    first, last = _day("start", start), _day("end", end)
    convert = _converter(to)
    source, _ = _place(provider, dataset)
    groups = by_calendar(names, calendar_of_source(source))
    days = {name: one.sessions(first, last + timedelta(days=1)) for one, own in groups.items() for name in own}
    if isinstance(symbols, Mapping):
        days = {name: tuple(day for day in own if any(day in span for span in symbols[name])) for name, own in days.items()}
    known = read_coverage(open_lake(lake), dataset, source).table
    text = [pa.field("symbol", pa.string()), pa.field("session", pa.date32())]
    wanted = pa.table(
        {
            "symbol": [name for name in names for _ in days[name]],
            "session": pa.array([day for name in names for day in days[name]], pa.date32()),
        },
        schema=pa.schema(text),
    )
    known = (
        pa.table({name: known[name].cast(pa.string()) for name in ("symbol", "state", "reason")})
        .append_column("session", known["session"])
        .append_column("recorded_at", known["recorded_at"])
    )
    cells = wanted.join(known, ["symbol", "session"]).sort_by([("symbol", "ascending"), ("session", "ascending")])
    state, reason = cells["state"].fill_null(MISSING), cells["reason"].fill_null("")
    return convert(
        pa.table(
            {
                "symbol": cells["symbol"],
                "session": cells["session"],
                "state": state,
                "reason": reason,
                "recorded_at": cells["recorded_at"],
            }
        )
    )


@dataclass(frozen=True)
class Estimate:
    """An estimate of a run. Computing it fetches and writes nothing.

    :param first_session: ISO date, like ``last_session``; both inclusive. None if the run has no session.
    :param objects: lake objects that the run writes, at most; None where the response decides on it, as for fundamentals.
    :param minutes: at the sustained rate of one pool slot.
    :param cost_usd: what the provider would charge for the requests; None where it does not charge by request.
    :param rows: at most.
    :param note: why there is nothing to do, or what a later run has to fetch; may be empty.
    :param text: the plan as a table, for people.
    """

    dataset: str
    provider: str
    symbols: int
    sessions: int
    first_session: str | None
    last_session: str | None
    cells: int
    covered: int
    batches: int
    calls: int
    minutes: float
    rows: int
    objects: int | None
    cost_usd: float | None
    note: str
    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def totals(self) -> dict[str, Any]:
        """All fields but ``text``."""
        return {name: value for name, value in asdict(self).items() if name != "text"}


TOTALS = ("symbols", "sessions", "cells", "covered", "batches", "calls", "minutes", "rows", "cost_usd", "note")
"""The fields of an ``Estimate`` that a plan's summary has under the same name."""


def plan(
    symbols: str | Sequence[str] | None,
    start: Day,
    end: Day,
    *,
    dataset: str = "ohlcv-1d",
    provider: str | None = None,
    account: Mapping[str, Any] | None = None,
    lake: str | Lake | None = None,
    **params: Any,
) -> Estimate:
    """Return calls, minutes and cost of fetching the missing cells from ``start`` to ``end`` (inclusive).

    Makes no data requests.

    :param symbols: None: the feed's universe, or that of the param ``universe``.
    :param account: the provider's account: ``base_url``, ``login``, ``password`` and ``extra`` (``plan``, limits) as in its Airflow
        connection. None: its smallest subscription plan. Only providers that price single requests need the key.
    :param params: further run params, e.g. ``file_grain="year"``, ``force=True``, and the provider's own options.
    :raises ParamError: naming every param that is wrong; or the work does not fit into one run.
    :raises ConfigError: the feed, account or lake is wrong.
    """
    feed = find_feed(provider, dataset)
    dates = {"start_date": _day("start", start).isoformat(), "end_date": _day("end", end).isoformat()}
    raw = {**feed.params, **dates, **params}
    if symbols is not None:
        raw["symbols"] = list(_symbols(symbols))
    return estimate(feed, raw, _hook(feed, raw, account), open_lake(lake))


# -- for the command -----------------------------------------------------------------------------------------------------------------


def estimate(
    feed: Feed,
    raw: Mapping[str, Any],
    hook: ProviderHook,
    lake: Lake,
    *,
    coverage: Callable[[str], Coverage] | None = None,
    is_running: IsRunning = lambda _: None,
    open_s3: Callable[[str], bytes] | None = None,
    now: datetime | None = None,
    most_cells: int | None = None,
) -> Estimate:
    """Return what a run of ``feed`` with the params ``raw`` would take.

    :param hook: of the feed's provider, with the options of ``raw``.
    :param coverage: returns the coverage of a source; None: it is read from the lake.
    :param is_running: looks up a run: one that is active loads what it has fetched.
    :param open_s3: returns the body of an ``s3://`` URL, for a tickers file; None: there is no access.
    :param now: UTC; None: the present moment.
    :param most_cells: symbols x sessions, covered or not, at most; None: any number.
    :raises ParamError: naming every param that is wrong; or the work does not fit into one run, or exceeds ``most_cells``.
    """
    from market_data.config.layouts import layout_of
    from market_data.config.param_checks import read_params
    from market_data.core.run import RunInfo
    from market_data.pipeline import RunContext, plan_run, source_of_run, universe_of
    from market_data.pipeline.planned import most_objects
    from market_data.pipeline.run_sessions import resolve_sessions

    now = now or datetime.now(UTC)
    params = replace(read_params({"universe": feed.universe, **raw}, **_allowed(feed, now)), dry_run=True)
    if params.cells:
        raise ParamError([f"cells is {shown(params.cells)}; a list of gaps is planned by its own run: leave it out"])
    resolve = partial(resolve_sessions, params, None, scheduled=False, now=now)
    wanted = resolve(calendars=[calendar.calendar(feed.calendar)])
    universe = universe_of(params, feed, lambda: lake, open_s3)
    run = RunInfo(feed.dag_id, "estimate", "manual", 0, now)
    source = source_of_run(feed, params)
    context = RunContext(feed, params, run, lake, layout_of(feed), source, is_running, open_s3)
    wanted = resolve(calendars=by_calendar(universe.symbols, context.calendar_of))
    _check_size(len(universe.symbols), len(wanted.own), most_cells)
    known = coverage(source) if coverage else None
    with hook:
        planned = plan_run(context, hook, wanted, universe.symbols, now, universe.membership, known)
    found = {name: planned.summary[name] for name in TOTALS}
    return Estimate(
        dataset=feed.dataset,
        provider=source,
        first_session=planned.summary["from"],
        last_session=planned.summary["to"],
        objects=most_objects(planned.plan, context.dataset, params.file_grain),
        text=planned.explain(),
        **found,
    )


def _check_size(symbols: int, sessions: int, most_cells: int | None) -> None:
    if most_cells is not None and symbols * sessions > most_cells:
        raise ParamError(
            [
                f"{symbols:,} symbols x {sessions:,} sessions are {symbols * sessions:,} cells; at most {most_cells:,} are allowed "
                "here: choose fewer symbols or dates, or use market-data plan"
            ]
        )


def options_in(feed: Feed, raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the provider's own settings among the run params ``raw``.

    :raises ParamError: naming every param that is wrong.
    """
    from market_data.config.param_checks import read_params

    return read_params(raw, **_allowed(feed, datetime.now(UTC))).options


def find_feed(provider: str | None, dataset: str) -> Feed:
    """Return the enabled feed of a provider and dataset; without a provider, the only feed of the dataset.

    :raises ConfigError: there is none, or several; names those there are.
    """
    from market_data.config.feeds import load_feeds

    served = [feed for feed in load_feeds() if feed.dataset == dataset]
    found = [feed for feed in served if provider is None or feed.provider == provider.partition("~")[0]]
    if len(found) == 1:
        return found[0]
    names = ", ".join(feed.provider for feed in served) or "none"
    if provider is None and served:
        raise ConfigError(f"provider is missing; feeds of {dataset}: {names}")
    raise ConfigError(f"there is no feed of {provider or 'any provider'} and {dataset}; feeds of {dataset}: {names}")


def open_lake(lake: str | Lake | None = None) -> Lake:
    """Return the lake at a URL, without Airflow; by default that of ``MARKET_DATA_LAKE``.

    :raises ConfigError: the URL is wrong, or its folder does not exist.
    """
    from market_data.lake.store import Lake

    if isinstance(lake, Lake):
        return lake
    url = lake or settings.value("MARKET_DATA_LAKE")
    parts = urlsplit(url)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():  # Lake.open would create it
        raise ConfigError(f"lake is {url}; there is no such folder")
    return Lake.open(url)


# -- parts ---------------------------------------------------------------------------------------------------------------------------


def _allowed(feed: Feed, now: datetime) -> dict[str, Any]:
    from market_data.datasets.registry import grains_of
    from market_data.providers.registry import options_of, serving

    return {
        "options": options_of(feed.provider, feed.dataset),
        "endpoints": serving(feed.provider, feed.dataset),
        "today": now.astimezone(calendar.NEW_YORK).date(),
        "grains": grains_of(feed.dataset),
    }


def _hook(feed: Feed, raw: Mapping[str, Any], account: Mapping[str, Any] | None) -> ProviderHook:
    """Return the hook of a feed's provider with an account given as plain fields."""
    from market_data.providers.base import ProviderConfig
    from market_data.providers.registry import provider

    fields = dict(account or {})
    allowed = ("base_url", "login", "password", "extra")
    if unknown := sorted(set(fields) - set(allowed)):
        raise ParamError([f"account has the unknown fields {', '.join(unknown)}; known fields: {', '.join(allowed)}"])
    config = ProviderConfig(feed.conn_id, **{"base_url": "", **fields})
    return provider(feed.provider)(config, options={**feed.options, **options_in(feed, raw)})


def _place(provider: str | None, dataset: str) -> tuple[str, Layout]:
    """Return the name under which the lake has the rows of a provider, and the layout of its feed."""
    from market_data.config.layouts import default_layout, layout_of
    from market_data.datasets.registry import dataset as find_dataset
    from market_data.providers.registry import known_provider

    find_dataset(dataset)
    try:
        feed = find_feed(provider, dataset)
    except ConfigError:
        if provider is None:
            raise
        known_provider(provider.partition("~")[0])
        return provider, default_layout()  # a feed that was disabled leaves its rows behind
    return provider or feed.provider, layout_of(feed)


def _symbols(symbols: str | Sequence[str]) -> tuple[str, ...]:
    from market_data.config.symbols import check_symbols

    names = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    problems = check_symbols(names) if names else ["symbols is empty; at least one symbol is needed"]
    if problems:
        raise ParamError(problems)
    return tuple(dict.fromkeys(names))


def _companies(lake: Lake, symbols: Sequence[str], last: date) -> list[tuple[NamedSpan, ...]]:
    """Return the spans of the names of each company, each company once."""
    from market_data.config.layouts import default_layout
    from market_data.core.symbol_changes import company_of
    from market_data.datasets.registry import dataset as find_dataset
    from market_data.lake.symbol_changes import bars_in, read_symbol_changes

    changes = read_symbol_changes(lake, default_layout(), find_dataset("symbol-changes"))
    return list(dict.fromkeys(company_of(symbol, changes, last, bars_in(lake)) for symbol in symbols))


def _day(name: str, value: Day) -> date:
    if isinstance(value, datetime) and value.time() == time():  # pandas has no dates
        return value.date()
    if isinstance(value, datetime) or not isinstance(value, date | str):
        raise ParamError([f"{name} is {value!r}; a date or ISO text is needed, e.g. 2026-11-02"])
    if isinstance(value, date):
        return value
    try:
        return read_date(value)
    except ValueError:
        raise ParamError([f"{name} is {value!r}; an ISO date is needed, e.g. 2026-11-02"]) from None


def _columns(dataset: Dataset, columns: Sequence[str] | None) -> list[str]:
    known = dataset.schema.names
    if isinstance(columns, str):
        raise ParamError([f"columns is {columns!r}; a list of names is needed"])
    if unknown := [name for name in columns or () if name not in known]:
        raise ParamError([f"columns {', '.join(map(str, unknown))} are unknown; columns of {dataset.name}: {', '.join(known)}"])
    return list(columns or known)


def _known_at(rows: pa.Table, as_of: datetime) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    stamps = rows["ingest_ts"]
    kept = rows.filter(pc.less_equal(stamps, pa.scalar(as_of.astimezone(UTC), stamps.type)))
    if left := len(rows) - len(kept):
        warnings.warn(
            f"{left:,} rows were first seen or corrected after {as_of}; the lake has no earlier values of them", stacklevel=3
        )
    return kept


def _converter(to: str) -> Any:
    def duckdb(table: pa.Table) -> Any:
        import duckdb

        return duckdb.connect().from_arrow(table)

    def polars(table: pa.Table) -> Any:
        import polars as pl

        return pl.from_arrow(table)

    known: dict[str, Any] = {
        "arrow": lambda table: table,
        "pandas": lambda table: table.to_pandas(),
        "polars": polars,
        "duckdb": duckdb,
    }
    if to not in known:
        raise ParamError([f"to is {to!r}; allowed: {', '.join(known)}"])
    return known[to]
