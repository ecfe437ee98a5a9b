"""The providers, by name. Adding one: a file here, an entry below, a test file that inherits the contract suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from market_data import fields
from market_data.errors import ConfigError
from market_data.types import Endpoint, Option, Shape

if TYPE_CHECKING:
    from market_data.hooks.base import ProviderHook

MINUTES = 960
"""Minutes of an exchange's day, 04:00 to 20:00 New York: most one-minute bars that a share has in a session."""
REGULAR = 390
"""Those from 09:30 to 16:00."""


def databento_range(rows_per_session: int, chunk_days: int, **more: int) -> Endpoint:
    """One answer, however long; it is streamed, so a request may bring more than elsewhere."""
    return Endpoint(
        "range",
        Shape.MULTI,
        page_rows=1_000_000_000,
        rows_per_session=rows_per_session,
        **{"request_rows": 2_000_000, "max_symbols": 2000, "chunk_days": chunk_days, **more},
    )


@dataclass(frozen=True)
class Provider:
    """All that is known of a provider without importing its hook, as every parse of a DAG file must do.

    :param hook: ``module:Class``.
    :param serves: dataset -> the endpoints that serve it, best first. What an account lacks of them its hook leaves out.
    :param options: its own settings, by name.
    """

    hook: str
    serves: Mapping[str, tuple[Endpoint, ...]]
    options: Mapping[str, Option] = field(default_factory=dict)


def one_of(description: str, *allowed: str, refused: Mapping[str, str] | None = None) -> Option:
    """An option of a few values, the default first; each of the others changes what comes."""
    return Option(allowed[0], {"type": "string", "enum": list(allowed)}, description, refused=refused or {})


GROUPED = Endpoint("grouped", Shape.MARKET)
# One S3 object a session, there about eleven in the morning (New York) of the next day.
FLAT_FILE = Endpoint("flatfile", Shape.MARKET, available_after=40 * 3600)
ALPACA_BARS = Endpoint("bars", Shape.MULTI, page_rows=10_000, max_symbols=1000)  # they stand in the URL
ADJUSTMENT = one_of("raw: as traded; split: the vendor's split adjustment, which later splits change.", "raw", "split")
BARS = ("ohlcv-1d", "ohlcv-5m", "ohlcv-1m")

PROVIDERS: dict[str, Provider] = {
    "mock": Provider(
        "market_data.hooks.mock:MockHook",
        {
            "ohlcv-1d": (Endpoint("market", Shape.MARKET), Endpoint("symbol", Shape.SYMBOL)),
            "ohlcv-5m": (Endpoint("symbol", Shape.SYMBOL, rows_per_session=REGULAR // 5),),
            "ohlcv-1m": (Endpoint("symbol", Shape.SYMBOL, rows_per_session=REGULAR),),
            **dict.fromkeys(("trades", "tbbo"), (Endpoint("symbol", Shape.SYMBOL, rows_per_session=1000),)),
            **dict.fromkeys(("statistics", "fundamentals", "corporate-actions"), (Endpoint("symbol", Shape.SYMBOL),)),
        },
    ),
    "polygon": Provider(
        "market_data.hooks.polygon:PolygonHook",
        {
            "ohlcv-1d": (GROUPED, Endpoint("range", Shape.SYMBOL), FLAT_FILE),
            "ohlcv-5m": (Endpoint("range", Shape.SYMBOL, rows_per_session=MINUTES),),  # pages count base bars: minutes
            "ohlcv-1m": (replace(FLAT_FILE, rows_per_session=REGULAR), Endpoint("range", Shape.SYMBOL, rows_per_session=MINUTES)),
            "corporate-actions": (Endpoint("reference", Shape.MULTI, page_rows=1000, chains=2, market_rows=125, max_days=92),),
        },
        {"adjustment": replace(ADJUSTMENT, datasets=BARS)},
    ),
    "alpaca": Provider(
        "market_data.hooks.alpaca:AlpacaHook",
        {
            "ohlcv-1d": (ALPACA_BARS,),
            "ohlcv-5m": (replace(ALPACA_BARS, rows_per_session=MINUTES // 5),),
            "ohlcv-1m": (replace(ALPACA_BARS, rows_per_session=MINUTES),),
        },
        {
            "feed": one_of(
                "default: what the account has; the others by name.",
                *("default", "sip", "iex", "otc"),
                refused=dict.fromkeys(("delayed_sip", "overnight"), "it serves the latest quotes and trades only, no history"),
            ),
            "adjustment": one_of(
                "raw: as traded; the others are the vendor's adjustments.", "raw", "split", "dividend", "spin-off", "all"
            ),
        },
    ),
    "fmp": Provider(
        "market_data.hooks.fmp:FMPHook",
        {
            "ohlcv-1d": (Endpoint("bulk", Shape.MARKET), Endpoint("history", Shape.SYMBOL, page_rows=4999)),
            # three statements, yearly and quarterly; in bulk a file for each of them and of the 17 periods that can be filed in a year
            "fundamentals": (
                Endpoint("statements", Shape.SYMBOL, page_rows=1_000_000, chains=6),
                Endpoint("bulk", Shape.MULTI, page_rows=1_000_000_000, chains=51, market_rows=1, weight=10, max_days=366),
            ),
        },
    ),
    "databento": Provider(
        "market_data.hooks.databento:DatabentoHook",
        {
            "ohlcv-1d": (databento_range(1, 30),),
            "ohlcv-1m": (databento_range(MINUTES, 7),),
            "trades": (databento_range(50_000, 1, max_days=1, request_rows=1_000_000),),
            "tbbo": (databento_range(50_000, 1, max_days=1, request_rows=1_000_000),),
            "statistics": (databento_range(20, 1),),
        },
        {
            "stype_in": Option(
                "raw_symbol",
                {"type": "string", "enum": ["raw_symbol", "continuous", "parent", "instrument_id"]},
                "How symbols are meant: AAPL; ES.c.0 (continuous); ES.FUT (parent); 15144 (instrument_id).",
                variant=False,
            ),
            "dataset": Option(
                "auto",
                {"type": "string", "pattern": r"auto|[A-Z]{4}\.[A-Z0-9]{2,16}", "examples": ["auto", "EQUS.MINI", "XNAS.ITCH"]},
                "auto: EQUS.SUMMARY for daily bars and statistics, GLBX.MDP3 for continuous and parent symbols, EQUS.MINI for the rest.",
            ),
            "chunk_days": Option(
                None,
                {"type": ["null", "integer"], "minimum": 1, "maximum": 366},
                "Most calendar days of a request. Empty: only where it would bring too much at once.",
                variant=False,
            ),
            "max_cost_usd": Option(
                None,
                {"type": ["null", "number"], "minimum": 0, "maximum": 1_000_000},
                "The run fails before it fetches anything if it would be charged more. Empty: no limit.",
                variant=False,
            ),
        },
    ),
    "ib": Provider(
        "market_data.hooks.interactive_brokers:InteractiveBrokersHook",
        {  # a month a request within the day; of a future's trading day, 23 hours
            "ohlcv-1d": (Endpoint("historical", Shape.SYMBOL, page_rows=5040),),
            "ohlcv-5m": (Endpoint("historical", Shape.SYMBOL, page_rows=21 * 276, rows_per_session=276),),
            "ohlcv-1m": (Endpoint("historical", Shape.SYMBOL, page_rows=21 * 1380, rows_per_session=1380),),
        },
        {
            "what_to_show": one_of(
                "trades, or quotes, which have no volume.",
                *("trades", "midpoint", "bid", "ask"),
                refused={
                    "adjusted_last": "it takes no end date, so no past span can be asked for",
                    "bid_ask": "it is no bar of prices",
                },
            ),
            "hours": one_of("regular, or extended: stocks from 04:00 to 20:00. Futures come whole.", "regular", "extended"),
        },
    ),
}


def known_provider(name: str) -> Provider:
    """The provider called ``name``.

    :raises ConfigError: if there is none; says which there are.
    """
    if name not in PROVIDERS:
        raise ConfigError(f"provider is {name!r}; known providers: {', '.join(sorted(PROVIDERS))}")
    return PROVIDERS[name]


def provider(name: str) -> type[ProviderHook]:
    """The hook class of the provider called ``name``.

    :raises ConfigError: if there is none; says which there are.
    """
    module, attribute = known_provider(name).hook.split(":")
    found: type[ProviderHook] = getattr(import_module(module), attribute)
    return found


def serving(name: str, dataset: str) -> tuple[Endpoint, ...]:
    """The endpoints of a provider that serve ``dataset``, best first.

    :raises ConfigError: if there are none; says which datasets the provider serves.
    """
    served = known_provider(name).serves
    if dataset not in served:
        raise ConfigError(f"{name} does not serve the dataset {dataset!r}; it serves: {', '.join(sorted(served))}")
    return served[dataset]


def options_of(name: str, dataset: str) -> Mapping[str, Option]:
    """The settings of a provider that are for ``dataset``."""
    options = known_provider(name).options
    return {key: option for key, option in options.items() if not option.datasets or dataset in option.datasets}


def option_problems(options: Mapping[str, Option], given: Mapping[str, Any], owner: str) -> Iterable[str]:
    """A sentence for each of the ``given`` options that is unknown or has a wrong value.

    :param owner: the provider's name, for the message.
    """
    for name, value in given.items():
        if name not in options:
            yield f"{name} is unknown; options of {owner}: {', '.join(options) or 'none'}"
        elif (problem := option_problem(options[name], value)) is not None:
            yield f"{name} is {value!r}; {problem}"


def option_problem(option: Option, value: Any) -> str | None:
    """What is wrong with a value, and what is allowed; None where nothing is."""
    if fields.fits(value, option.schema):
        return None
    why = f" ({option.refused[value]})" if isinstance(value, str) and value in option.refused else ""
    return f"{fields.needed(option.schema)}{why}"
