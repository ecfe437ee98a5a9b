"""The coverage of a ledger that pages keep in memory, as a plan needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from market_data.lake.coverage import SCHEMA, Coverage
from market_data.views.records import STATES, split

if TYPE_CHECKING:
    import numpy.typing as npt

    from market_data.views.records import Records


def coverage_of(records: Records) -> Coverage:
    """Return the current records as ``read_coverage`` returns them. Cells that were reset have none."""
    rows = records.latest
    symbols, days = split(records.codes[rows])
    columns = {
        "symbol": _texts(symbols, records.symbols),
        "session": pa.array(days.astype("int32")).cast(pa.date32()),
        "state": _texts(records.states[rows], list(map(str, STATES))),
        "recorded_at": pa.array(records.stamps[rows]).cast(SCHEMA.field("recorded_at").type),
        **{name: _texts(numbers[rows], records.texts[name].names) for name, numbers in records.numbers.items()},
    }
    found = Coverage(pa.table({name: columns[name] for name in SCHEMA.names}))
    found.unreadable = records.unreadable
    return found


def _texts(numbers: npt.NDArray[Any], names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype("int32")), pa.array(names, pa.string()))
