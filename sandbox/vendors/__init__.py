"""The vendors, by the name that is their path prefix too. Adding one: a file here, and a line below."""

from __future__ import annotations

from sandbox.vendors.alpaca import Alpaca
from sandbox.vendors.base import Vendor
from sandbox.vendors.databento import Databento
from sandbox.vendors.fmp import FMP
from sandbox.vendors.polygon import Polygon

VENDORS: dict[str, type[Vendor]] = {
    vendor.name: vendor
    for vendor in (
        Alpaca,
        Databento,
        FMP,
        Polygon,
    )
}  # fmt: skip
