"""The vendors, by the name that is their path prefix too. Adding one: a file here, and a line below."""

from __future__ import annotations

from include.local.sample_api.vendors.base import Vendor
from include.local.sample_api.vendors.polygon import Polygon

VENDORS: dict[str, type[Vendor]] = {
    vendor.name: vendor
    for vendor in (
        Polygon,
    )
}  # fmt: skip
