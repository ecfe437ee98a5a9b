"""The page of limits has the values of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = Path("docs/reference/limits.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| [^|]+ \| ([\d,]+)[^|]* \| `([\w.]+)\.(\w+)` \|", PAGE, re.MULTILINE)


def test_every_row_is_read():
    assert len(ROWS) == PAGE.count("\n| ") - 1 >= 20


@pytest.mark.parametrize(("value", "module", "name"), ROWS)
def test_a_limit_is_the_one_of_the_code(value, module, name):
    assert getattr(import_module(f"market_data.{module}"), name) == int(value.replace(",", ""))
