"""The symbols of a run, and the index they may be kept as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import TYPE_CHECKING

from market_data.config.feeds import Feed
from market_data.config.run_params import RunParams
from market_data.config.ticker_files import load_tickers
from market_data.config.universes import IndexChange, members, update_index
from market_data.core.messages import some

if TYPE_CHECKING:
    from market_data.lake.store import Lake


def symbols_of(
    params: RunParams, feed: Feed, as_of: date, today: date, open_s3: Callable[[str], bytes] | None = None
) -> tuple[str, ...]:
    """The symbols of a run: its own list, else its file, else its universe as of a date.

    :param as_of: the run's last session.
    :param today: the New York date: a file's symbols removed by then are left out.
    :param open_s3: the body of an ``s3://`` address.
    :raises ParamError: naming every bad line of the file.
    """
    if params.symbols:
        return params.symbols
    if params.tickers_path is not None:
        return load_tickers(params.tickers_path, open_s3, today=today)
    return members(params.universe or feed.universe, as_of)


def record_index(lake: Lake, index: str, symbols: Sequence[str], day: date) -> str:
    """Keeps ``symbols`` as the members of an index, ``metadata/indices/{index}.csv``; equal members write nothing.

    :param day: the New York date; who is new is added on it, who is gone removed.
    :return: what changed, in words.
    :raises ConfigError: if the standing file is wrong.
    """
    key = f"metadata/indices/{index}.csv"
    change = IndexChange(None)

    def revise(standing: bytes | None) -> bytes | None:
        nonlocal change
        change = update_index(None if standing is None else standing.decode(errors="replace"), symbols, day, source=key)
        return None if change.text is None else change.text.encode()

    lake.update(key, revise)
    if change.text is None:
        return f"{key}: {len(symbols):,} members, as before"
    return f"{key}: {len(symbols):,} members; new: {some(change.added) or 'none'}; gone: {some(change.removed) or 'none'}"
