"""Describe the provider: its name, its hook, which endpoints serve which dataset, its options."""

from __future__ import annotations

from market_data.core.capabilities import Endpoint, Shape
from market_data.providers.spec import ProviderSpec, one_of

SPEC = ProviderSpec(
    "template",
    "market_data.providers._template.hook:TemplateHook",
    {"ohlcv-1d": (Endpoint("history", Shape.SYMBOL, page_rows=1000),)},
    {"session_kind": one_of("regular, or extended: bars that include early and late trading.", "regular", "extended")},
)
