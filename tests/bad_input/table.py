"""Bad input, as a table: where it comes in, what it is, and the typed error that must name it."""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from market_data.config.feeds import KEYS, load_feeds
from market_data.config.param_checks import read_params
from market_data.config.ticker_files import load_tickers
from market_data.config.trigger_form import form
from market_data.config.universes import read_members
from market_data.core.errors import (
    BrokenObject,
    ConfigError,
    MarketDataError,
    ParamError,
    SchemaDrift,
    ServerError,
    TruncatedResponse,
)
from market_data.datasets.registry import dataset
from market_data.lake import ledger, parquet, receipts
from market_data.lake.store import Lake
from market_data.pipeline.gap_list import read_gaps
from market_data.providers.base import ProviderConfig
from market_data.providers.registry import known_provider, provider, providers, serving
from tests.providers.test_decoders import DECODERS

TODAY = date(2026, 11, 20)
NESTED: Any = {"a": [{"b": None}]}
MANY = "x" * 5000
HOSTILE = [
    "repairs/../../../etc/passwd",
    "../../etc/passwd",
    "'; DROP TABLE silver_prices; --",
    "<script>alert(1)</script>",
    "{{ var.value.x }}",
    "a\nb",
    "\x00",
    "\u202eAAPL",
]


@dataclass(frozen=True)
class Bad:
    """An input that must be refused.

    :param call: takes a folder, and gives the input to the code.
    :param error: of this type; None: it is read, and its rows are judged later.
    :param words: each is in its message.
    """

    kind: str
    name: str
    call: Callable[[Any], Any]
    error: type[MarketDataError] | tuple[type[MarketDataError], ...] | None
    words: tuple[str, ...] = ()


def odd_values(schema: Any) -> Iterator[Any]:
    """Yield values that a JSON schema refuses."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "null" not in kinds:
        yield None
    if "boolean" in kinds:
        yield from (1, 0, "true", "", 2.5, [], {}, [True])
    if "integer" in kinds or "number" in kinds:
        yield from (
            "5",
            "",
            True,
            math.nan,
            math.inf,
            [],
            {},
            [5],
            schema.get("minimum", 0) - 1,
            schema.get("maximum", 1e9) * 10 + 7,
        )
        yield from (2.5, 1e300) if "integer" in kinds else ()
    if "enum" in schema or schema.get("pattern"):
        yield from (7, "", "nope", [], {}, True, MANY, *HOSTILE)
    elif schema.get("format") == "date":
        yield from (
            7,
            "",
            "2024-13-01",
            "2024-02-30",
            "04.11.2024",
            "20240102",
            "2024-01-02T09:30",
            "9999-12-31",
            "0001-01-01",
            [],
            {},
            True,
        )
        yield from ("+2024-01-02", " 2024-01-02", "2024-1-2", "today", MANY, *HOSTILE)
    elif "string" in kinds:
        yield from (7, 2.5, True, [], {}, ["x"], MANY, *HOSTILE)
    if "array" in kinds:
        yield from ("AAPL", 7, {}, True, [7], [None], [""], [" "], ["aapl"], ["A" * 33], [["AAPL"]], ["AAPL", "AAPL"])
        yield from ([one] for one in HOSTILE)
    if "object" in kinds:
        yield from (7, "x", [], True, {"nope": 1}, {"pending": 2}, {"pending": "x"}, {"pending": None}, {"quarantined": -1}, NESTED)


def params() -> Iterator[Bad]:
    """Run params of every provider: of the form, and its own."""
    for name, served in {
        "polygon": "ohlcv-1d",
        "alpaca": "ohlcv-1d",
        "fmp": "ohlcv-1d",
        "databento": "trades",
        "ib": "ohlcv-1d",
    }.items():
        allowed = {"options": known_provider(name).options, "endpoints": serving(name, served)}
        fields = (
            form(**allowed)
            if name == "polygon"
            else {key: one for key, one in form(**allowed).items() if key in allowed["options"]}
        )
        for key, param in fields.items():
            for value in odd_values(param[1]):
                if (key, value) == ("as_of", "0001-01-01"):  # allowed, and a universe without members then
                    continue
                call = lambda folder, key=key, value=value, allowed=allowed: _planned({key: value}, allowed, folder)  # noqa: E731
                yield Bad("params", f"{name} {key}={ascii(value)[:40]}", call, ParamError, ("" if key == "tickers_path" else key,))


def _planned(raw: dict[str, Any], allowed: Any, folder: Any) -> None:
    """Read params, and what they name, as a plan does."""
    read = read_params(raw, **allowed, today=TODAY)
    if read.tickers_path:
        load_tickers(read.tickers_path)
    if read.cells:
        read_gaps(Lake.open(f"file://{folder}"), read.cells, "ohlcv-1d", "polygon")


LIMITS = [
    "x",
    {},
    5,
    [5],
    [{}],
    [{"calls": 5}],
    [{"calls": 0, "seconds": 60}],
    [{"calls": "5", "seconds": 60}],
    [{"calls": 5, "seconds": -1}],
    [{"calls": 5, "seconds": 60, "x": 1}],
    [{"calls": True, "seconds": 60}],
    [{"calls": 5, "seconds": math.nan}],
    [None],
]
SLOTS = [0, -1, "5", math.nan, math.inf, True, [], {}]
PLANS = [7, "gold", "", [], {}, True, MANY, *HOSTILE]
HOSTS = [
    "ftp://x",
    "x",
    "http://",
    "://",
    "https://user:secret@x.example",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "http://x y",
]


def connections() -> Iterator[Bad]:
    """Connections of every provider."""
    for name in providers():
        extras = [{"colour": 1}, {"": 1}, *({"plan": one} for one in PLANS), *({"limits": one} for one in LIMITS)]
        extras += [{"calls_per_minute_per_slot": one} for one in SLOTS]
        for extra in extras:
            (field,) = extra
            config = ProviderConfig(
                f"{name}_default", _host(name), "login", "a-key-of-ours", {"plan": known_provider(name).form.plans[0], **extra}
            )
            yield _connection(name, f"extra {ascii(extra)[:50]}", config, field)
        if name not in ("ib", "mock"):
            for host in HOSTS:
                yield _connection(
                    name, f"host {host}", ProviderConfig(f"{name}_default", host, "login", "a-key-of-ours", {}), "host"
                )
            for key in ("", " a-key-of-ours", "a-key-of-ours\n", "\t"):
                yield _connection(
                    name, f"password {key!r}", ProviderConfig(f"{name}_default", _host(name), "login", key, {}), "password"
                )


def _host(name: str) -> str:
    return {"ib": "127.0.0.1:4002", "mock": ""}.get(name, "https://x.example")


def _connection(name: str, what: str, config: ProviderConfig, field: str) -> Bad:
    def call(_: Any) -> None:
        provider(name)(config=config).validate_config()

    return Bad("connections", f"{name} {what}", call, ConfigError, (f"{name}_default", field))


STANZA = {"provider": "polygon", "dataset": "ohlcv-1d"}
ODD_KEYS: dict[str, list[Any]] = {
    "provider": ["nobody", "", 7, None, [], {}, *HOSTILE],
    "dataset": ["ohlcv-2d", "", 7, None, [], {}, "trades", *HOSTILE],
    "universe": ["gone", "", 7, [], {}, *HOSTILE],
    "schedule": ["25:00", "10:00", "x", 7, 20.5, [], {}, "20:30:00", "-1:00", True],
    "start_date": ["x", 7, [], {}, "2024-13-01", "1800-01-01", "9999-01-01", True],
    "conn_id": [7, [], {}, "a b", True, "a\tb", "{{ x }}", "<a>"],
    "pool": [7, [], {}, True],
    "provider_level": ["yes", 7, [], {}, None],
    "params": [7, "x", [], {"nope": 1}, {"batch_size": 0}, {"force": "x"}],
    "options": [7, "x", [], {"nope": 1}, {"adjustment": "x"}, {"adjustment": None}],
    "retry": [7, "x", [], {"nope": 1}, {"attempts": 0}, {"attempts": "x"}],
    "fallback": ["nobody", 7, [], {}, "polygon", ""],
    "catch_up_sessions": [0, -1, "x", 2.5, True, [], {}, 10**9],
    "run_timeout": ["x", -1, 0, [], {}, True, "4"],
    "name": [7, "A b", [], {}, True, *HOSTILE[:4]],
    "calendar": ["XXXX", 7, [], {}, ""],
    "checks": [7, "x", [], {"nope": 1}, {"max_jump": -1}],
    "due": ["25:00", 7, "x", [], {}, True],
    "enabled": ["yes", 7, [], {}, None],
}


def feeds() -> Iterator[Bad]:
    """Stanzas of feeds.yaml, and whole files."""
    assert set(ODD_KEYS) == set(KEYS)
    for key, values in ODD_KEYS.items():
        for value in values:
            text = yaml.safe_dump(
                {
                    "defaults": {"universe": "dow30", "schedule": "20:30", "start_date": date(2000, 1, 3)},
                    "feeds": [{**STANZA, key: value}],
                }
            )
            yield Bad("feeds.yaml", f"{key}: {ascii(value)[:40]}", _feeds_file(text), ConfigError, ("feeds.yaml",))
    for text in (
        "",
        "feeds:",
        "feeds: {}",
        "feeds: x",
        "[]",
        "x",
        "feeds: [",
        "\t",
        "feeds: [7]",
        "feeds: [[]]",
        "colour: 1",
        "a: &a [*a]",
        "feeds: [{provider: polygon}]",
        "feeds: [{dataset: ohlcv-1d}]",
        "feeds: []\nfeeds: []",
        "!!python/object:os.system x",
        "a: !!timestamp x",
        "a: !!bool x",
        'a: !!int ""',
        'a: !!float ""',
        "a: 9999-12-31T23:59:59-23:00",
        "a: 2024-13-45",
    ):
        yield Bad("feeds.yaml", f"file {text[:40]!r}", _feeds_file(text), ConfigError, ("feeds.yaml",))


def _feeds_file(text: str) -> Callable[[Any], Any]:
    def call(folder: Any) -> Any:
        (folder / "feeds.yaml").write_text(text, encoding="utf-8")
        return load_feeds(folder / "feeds.yaml")

    return call


TICKERS = [
    b"",
    b"\n\n",
    b"symbol\n",
    b"symbol\naapl\n",
    b"symbol\nAAPL\nAAPL\n",
    b"\xff\xfe\x00",
    b"symbol\n\xff\n",
    b"name\nApple\n",
    b"symbol,symbol\nA,B\n",
    b"symbol,added_date\nA,x\n",
    b"symbol,added_date,removed_date\nA,2024-02-01,2024-01-01\n",
    b"symbol\nAAPL,GOOG\n",
    b'symbol,name\nA,"x\n',
    b"../x\n",
    b"symbol\n" + b"A" * 40 + b"\n",
    b"symbol\n\x00\n",
    b'{"symbol": "AAPL"}',
    b"[default]\naws_secret_access_key = x\n",
    b"symbol\n=cmd|' /C calc'!A0\n",
    b"symbol,added_date\nA,2024-01-01\nA,2024-01-02\n",
    b"PK\x03\x04",
    b"\x1f\x8b\x08",
    b"symbol\n<script>\n",
    "symbol\n\u0410APL\n".encode(),
]
UNIVERSE = [
    *(one for one in TICKERS if b"\xff" not in one and not one.startswith((b"PK", b"\x1f"))),
    b"symbol,added_date,removed_date\nA,,x\n",
]


def files() -> Iterator[Bad]:
    """Tickers files and universes."""
    for body in TICKERS:
        for suffix in ("csv", "txt"):

            def call(folder: Any, body: bytes = body, suffix: str = suffix) -> Any:
                file = folder / f"t.{suffix}"
                file.write_bytes(body)
                return load_tickers(str(file))

            yield Bad("tickers file", f"{suffix} {body[:40]!r}", call, ParamError, (f"t.{suffix}",))
    for body in UNIVERSE:
        yield Bad(
            "universe file",
            f"{body[:40]!r}",
            lambda _, body=body: read_members(body.decode(), source="the universe"),
            ConfigError,
            ("the universe",),
        )


BODIES = [
    b"",
    b" ",
    b"{}",
    b"[]",
    b"null",
    b"7",
    b'"x"',
    b"<html>",
    b"\xff\xfe",
    b"\x00" * 100,
    b"{" * 1000,
    b'{"x":' + b"[" * 50_000,
    b"NaN",
    b"[NaN]",
    b"\xef\xbb\xbf",
    b'{"results":7}',
    b'{"results":[7]}',
    b'{"results":[{}]}',
    b'{"bars":[]}',
    b'{"bars":{"IBM":7}}',
    b'{"bars":{"IBM":[{"t":7}]}}',
    b'[{"date":"x"}]',
    b"[[]]",
    b'{"error":"x"}',
    b'{"status":"ERROR"}',
    gzip.compress(b"{}"),
    gzip.compress(b"\x00" * 1_000_000),
    b"a,b\n1",
    b"a,b\n1,2\n",
    b'"a\n' * 50,
    b"DBN\x01",
    b"DBN" + b"\xff" * 60,
]


READ = {
    **dict.fromkeys(("fmp bulk", "fmp bulk statements"), (b"[]",)),
    **dict.fromkeys(("fmp actions", "fmp history", "fmp statements"), (b"[]", b"[NaN]", b'[{"date":"x"}]', b"[[]]")),
}
"""Bodies that FMP also sends where it has nothing, and a single unreadable row, which goes to quarantine."""


OF_A_RESPONSE = (ServerError, TruncatedResponse, SchemaDrift)
"""What a body may end in: it is asked for again, or its form is another one."""


def bodies() -> Iterator[Bad]:
    """Bodies of every provider's responses. All but those in `READ` are refused by every decoder."""
    for name, (decoder, _) in DECODERS.items():
        for body in BODIES:
            error = None if body in READ.get(name, ()) else OF_A_RESPONSE
            yield Bad("bodies", f"{name} {body[:30]!r}", lambda _, decoder=decoder, body=body: decoder(body), error)


def _other_parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1]}), sink)
    return sink.getvalue()


OBJECTS = [
    b"",
    b"x",
    b"PAR1",
    b"PAR1" + b"\x00" * 100 + b"PAR1",
    _other_parquet(),
    _other_parquet()[:-9],
    b"[]",
    b"{}",
    b"\xff" * 1000,
    json.dumps(NESTED).encode(),
]


def lake_objects() -> Iterator[Bad]:
    """Objects of the lake."""
    readers: dict[str, Callable[[Any, bytes], Any]] = {
        "raw": lambda _, body: parquet.decode_rows(body, "raw/prices/x.parquet", dataset("ohlcv-1d")),
        "raw ticks": lambda _, body: parquet.decode_rows(body, "raw/trades/x.parquet", dataset("trades")),
        "ledger": lambda _, body: ledger.decode_records(body, "manifest/x.parquet"),
        "receipt": _receipt,
    }
    for name, read in readers.items():
        for body in OBJECTS:
            yield Bad(
                "lake objects",
                f"{name} {len(body)} bytes {body[:30]!r}",
                lambda folder, read=read, body=body: read(folder, body),
                BrokenObject,
                ("x.parquet",),
            )


def _receipt(folder: Any, body: bytes) -> Any:
    lake = Lake.open(f"file://{folder}")
    lake.put_new("receipts/x.parquet", body)
    return receipts.read_one(lake, "receipts/x.parquet")


TABLE = [*params(), *connections(), *feeds(), *files(), *bodies(), *lake_objects()]
