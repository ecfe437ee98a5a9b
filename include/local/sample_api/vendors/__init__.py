"""The vendors, by the name that is their path prefix too. Adding one: a file here, and a line below."""

from __future__ import annotations

from include.local.sample_api.vendors.alpaca import Alpaca
from include.local.sample_api.vendors.base import Vendor
from include.local.sample_api.vendors.databento import Databento
from include.local.sample_api.vendors.fmp import FMP
from include.local.sample_api.vendors.polygon import Polygon

VENDORS: dict[str, type[Vendor]] = {
    vendor.name: vendor
    for vendor in (
        Alpaca,
        Databento,
        FMP,
        Polygon,
    )
}  # fmt: skip
