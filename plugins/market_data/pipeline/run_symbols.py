"""Resolve the universe of a run and record index members."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import TYPE_CHECKING

from market_data.config.feeds import Feed
from market_data.config.indices import FOLDER, FROM_FILE, PREFIX, IndexChange, key_of, name_of_file, update_index
from market_data.config.run_params import RunParams
from market_data.config.ticker_files import load_tickers
from market_data.config.universes import Member, Universe, in_order, read_members, read_universe, with_earlier_names
from market_data.core.errors import ConfigError, ParamError
from market_data.core.messages import shown, some, suggestion

if TYPE_CHECKING:
    from market_data.lake.store import Lake


def universe_of(params: RunParams, feed: Feed, lake: Callable[[], Lake], open_s3: Callable[[str], bytes] | None = None) -> Universe:
    """Return the universe of a run: its list of symbols, else its file, else the universe that it names.

    :param lake: opens the lake, for the index of a universe ``index:NAME``.
    :param open_s3: returns the body of an ``s3://`` URL.
    :raises ParamError: lists every invalid line of the file; or nobody is a member on ``as_of``, or no changes of symbols are known.
    :raises ConfigError: the stored index is invalid.
    """
    found = _named(params, feed, lake, open_s3)
    if params.as_of is not None and not found.symbols:
        raise ParamError([f"as_of is {params.as_of}; {found.name} has no members on that date"])
    return _following(found, lake()) if params.follow_renames else found


def _following(universe: Universe, lake: Lake) -> Universe:
    """Return the universe with each company under the symbol that it had on each date.

    :raises ParamError: if the lake has no changes of symbols.
    """
    from market_data.config.layouts import default_layout
    from market_data.datasets.registry import dataset
    from market_data.lake.symbol_changes import bars_in, read_symbol_changes

    changes = read_symbol_changes(lake, default_layout(), dataset("symbol-changes"))
    if not changes:
        raise ParamError(["follow_renames is true; the lake has no symbol-changes: run a feed of that dataset first"])
    members = universe.members if universe.as_of is None else tuple(map(Member, universe.symbols))
    return Universe(universe.name, with_earlier_names(members, changes, bars_in(lake)))


def _named(params: RunParams, feed: Feed, lake: Callable[[], Lake], open_s3: Callable[[str], bytes] | None) -> Universe:
    if params.symbols:
        return Universe("symbols", tuple(map(Member, params.symbols)))
    name = params.universe or feed.universe
    if params.tickers_path is not None:
        found = Universe(shown(params.tickers_path, 200), load_tickers(params.tickers_path, open_s3))
    elif name.startswith(PREFIX):
        found = read_index(lake(), name.removeprefix(PREFIX))
    else:
        found = read_universe(name)
    return Universe(found.name, found.members, params.as_of)


def read_index(lake: Lake, index: str) -> Universe:
    """Return the universe that an index in the lake holds.

    :raises ParamError: if the lake has no such index; names those that it has.
    :raises ConfigError: if its file is invalid; lists every problem with its line.
    """
    stored = lake.get(key_of(index))
    if stored is None:
        names = sorted(key.removeprefix(FOLDER).removesuffix(".csv") for key, _ in lake.list(FOLDER.rstrip("/")))
        near = suggestion(index, names)
        raise ParamError(
            [f"universe is {shown(PREFIX + index)}{near}; known indices: {', '.join(names) or 'none, see index_name'}"]
        )
    rows = read_members(_text(stored.body, key_of(index)), source=key_of(index))
    return Universe(f"index {index}", in_order(rows))


def index_of(params: RunParams) -> str | None:
    """Return the name of the index that a run records, or None.

    :raises ParamError: if it is the tickers file's and that name gives none.
    """
    if params.index_name != FROM_FILE:
        return params.index_name
    name = name_of_file(params.tickers_path) if params.tickers_path else None
    if name is None:
        raise ParamError(
            [f"index_name is {FROM_FILE!r}; that needs a tickers_path whose file name begins with the index, e.g. sp500_2024.csv"]
        )
    return name


def record_index(lake: Lake, index: str, members: Iterable[str | Member], day: date) -> str:
    """Record the members of an index, with their dates, in ``metadata/indices/{index}.csv``.

    Nothing is written if the members are the same.

    :param members: symbols, or symbols with the dates of their membership.
    :param day: the New York date on which new members without dates are added and others removed.
    :return: the changes as a message.
    :raises ConfigError: if the stored file is invalid.
    """
    key, given = key_of(index), list(members)
    change = IndexChange(None)

    def revise(stored: bytes | None) -> bytes | None:
        nonlocal change
        change = update_index(None if stored is None else _text(stored, key), given, day, source=key)
        return None if change.text is None else change.text.encode()

    lake.update(key, revise)
    count = len({one if isinstance(one, str) else one.symbol for one in given if isinstance(one, str) or one.on(day)})
    if change.text is None:
        return f"{key}: {count:,} members, as before"
    return f"{key}: {count:,} members; new: {some(change.added) or 'none'}; gone: {some(change.removed) or 'none'}"


def _text(body: bytes, key: str) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key} is not UTF-8 text: byte {error.start + 1} is {body[error.start]:#04x}") from None
