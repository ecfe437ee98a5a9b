"""Every row of the table ends in its typed error, in little time, and the message names what is wrong."""

import time
from collections import Counter

import pytest

from market_data.core.errors import MarketDataError
from market_data.providers.databento.parse import NotOfTheQuestionError
from tests.bad_input.table import TABLE

SECONDS = 5.0
"""Of the CPU, for one input."""
LONGEST = 6_000
INTERNAL = ("Traceback", "NoneType", "object at 0x", "KeyError", "AttributeError", "TypeError(", "ValueError(")


def _names(errors):
    return ", ".join(error.__name__ for error in (errors if isinstance(errors, tuple) else (errors,)))


@pytest.mark.parametrize("kind", sorted({bad.kind for bad in TABLE}))
def test_each_bad_input_ends_in_its_typed_error(kind, tmp_path):
    wrong = []
    for number, bad in enumerate(one for one in TABLE if one.kind == kind):
        folder = tmp_path / str(number)
        folder.mkdir()
        began = time.process_time()
        try:
            bad.call(folder)
            found = None
        except (MarketDataError, NotOfTheQuestionError) as error:
            found = error
        except Exception as error:  # noqa: BLE001 - what is reported
            wrong.append(f"{bad.name}: {type(error).__name__}: {error}")
            continue
        if (spent := time.process_time() - began) > SECONDS:
            wrong.append(f"{bad.name}: {spent:.1f} s")
        if found is None:
            wrong += [f"{bad.name}: accepted"] * (bad.error is not None)
            continue
        wrong += [f"{bad.name}: refused: {found}"] * (bad.error is None)
        text = str(found)
        if bad.error is not None and not isinstance(found, bad.error):
            wrong.append(f"{bad.name}: {type(found).__name__}, not {_names(bad.error)}: {text}")
        wrong += [f"{bad.name}: {word!r} is not named: {text}" for word in bad.words if word not in text]
        wrong += [f"{bad.name}: {word!r} is of no use to a reader: {text}" for word in INTERNAL if word in text]
        wrong += [f"{bad.name}: {len(text)} characters"] * (len(text) > LONGEST)
    assert wrong == []


def test_the_table_has_many_rows_of_every_kind():
    counts = Counter(bad.kind for bad in TABLE)
    assert sum(counts.values()) >= 1000
    assert min(counts.values()) >= 20
    names = Counter((bad.kind, bad.name) for bad in TABLE)
    assert [name for name, times in names.items() if times > 1] == []
