"""The vendors of the sample API, by the name that is their path prefix too.

To add one, write a module with a `Vendor` called ``VENDOR`` and add the module's name below.
"""

from __future__ import annotations

from importlib import import_module

from sandbox.vendors.base import Vendor

MODULES = (
    "alpaca",
    "databento",
    "fmp",
    "polygon",
)

_FOUND: list[type[Vendor]] = [import_module(f"sandbox.vendors.{module}").VENDOR for module in MODULES]
VENDORS = {vendor.name: vendor for vendor in _FOUND}

__all__ = ["VENDORS", "Vendor"]
