"""Market data from provider APIs into a lake and a warehouse.

The public names are ``read``, ``coverage`` and ``plan``; none of them needs Airflow. They are imported when first used: every Airflow
component imports this package, and what it does not need it should not pay for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from market_data.api import Estimate, coverage, plan, read

__version__ = "0.4.0"
__all__ = ["Estimate", "__version__", "coverage", "plan", "read"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("market_data.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
