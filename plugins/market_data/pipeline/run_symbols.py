"""Resolve the symbols of a run and record index members."""

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
    """Return the symbols of a run: from its list, else its file, else its universe as of a date.

    :param as_of: the run's last session.
    :param today: the New York date; symbols that a file removes by then are left out.
    :param open_s3: returns the body of an ``s3://`` URL.
    :raises ParamError: lists every invalid line of the file.
    """
    if params.symbols:
        return params.symbols
    if params.tickers_path is not None:
        return load_tickers(params.tickers_path, open_s3, today=today)
    return members(params.universe or feed.universe, as_of)


def record_index(lake: Lake, index: str, symbols: Sequence[str], day: date) -> str:
    """Record ``symbols`` as the members of an index in ``metadata/indices/{index}.csv``.

    Nothing is written if the members are the same.

    :param day: the New York date on which new members are added and others removed.
    :return: the changes as a message.
    :raises ConfigError: if the stored file is invalid.
    """
    key = f"metadata/indices/{index}.csv"
    change = IndexChange(None)

    def revise(stored: bytes | None) -> bytes | None:
        nonlocal change
        change = update_index(None if stored is None else stored.decode(errors="replace"), symbols, day, source=key)
        return None if change.text is None else change.text.encode()

    lake.update(key, revise)
    if change.text is None:
        return f"{key}: {len(symbols):,} members, as before"
    return f"{key}: {len(symbols):,} members; new: {some(change.added) or 'none'}; gone: {some(change.removed) or 'none'}"
