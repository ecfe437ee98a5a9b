"""Import the vendor's library without pandas, which takes 30 MB and is for its data frames only.

The provider's modules take the library's names from here. The library names ``pandas.Timestamp`` in a type while it is imported; what it
uses later imports pandas then.
"""

from __future__ import annotations

import importlib
import sys
from datetime import datetime
from types import ModuleType
from typing import Any


class LatePandas(ModuleType):
    """A module in the place of pandas until something of it is used."""

    importing = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.importing and name == "Timestamp":
            return datetime
        if sys.modules.get("pandas") is self:
            del sys.modules["pandas"]
        return getattr(importlib.import_module("pandas"), name)


def import_without_pandas() -> None:
    """Import ``databento``; leave pandas as it is if it is loaded."""
    if "pandas" in sys.modules or "databento" in sys.modules:
        return
    late = LatePandas("pandas")
    sys.modules["pandas"] = late
    try:
        importlib.import_module("databento")
    finally:
        late.importing = False
        if sys.modules.get("pandas") is late:
            del sys.modules["pandas"]  # others get the real one


import_without_pandas()

from databento import DBNStore, Historical  # noqa: E402 - after the import without pandas
from databento.common.error import BentoError, BentoHttpError, BentoWarning  # noqa: E402
from databento.common.http import check_backend_warnings, check_http_error  # noqa: E402
from databento.common.parsing import symbols_list_to_list  # noqa: E402

__all__ = [
    "BentoError",
    "BentoHttpError",
    "BentoWarning",
    "DBNStore",
    "Historical",
    "check_backend_warnings",
    "check_http_error",
    "symbols_list_to_list",
]
