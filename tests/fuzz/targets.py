"""The parsers that read foreign bytes, as targets of the fuzzer: each takes bytes, and raises nothing but a typed error."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from ib_async import IB

from market_data.config.feeds import load_feeds
from market_data.config.ticker_files import load_tickers
from market_data.config.universes import read_members
from market_data.core.errors import MarketDataError
from market_data.core.run import RunInfo
from market_data.datasets.registry import dataset
from market_data.lake import decisions, failures, ledger, parquet, receipts
from market_data.lake.coverage import CELLS
from market_data.lake.store import Lake
from market_data.pipeline import gap_list
from market_data.providers.databento.conditions import read_conditions
from market_data.providers.databento.parse import NotOfTheQuestionError
from market_data.providers.ib.client import BARS, DETAILS, Link
from sandbox.ib_gateway import contracts
from tests.bad_input.table import STANZA, TICKERS
from tests.lake import rows as lake_rows
from tests.lake import test_receipts as some_receipts
from tests.providers.test_decoders import DECODERS, WHERE

PROJECT = Path(__file__).parents[2]
VERSION = 178
"""Of the gateway's protocol."""


@dataclass(frozen=True)
class Target:
    """A parser.

    :param read: raises nothing but `MarketDataError` and `NotOfTheQuestionError`, of which Databento's hook makes one.
    :param seeds: bodies to begin with.
    """

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]

    def __call__(self, body: bytes) -> None:
        with suppress(MarketDataError, NotOfTheQuestionError):
            self.read(body)


# -- Interactive Brokers: a message is a list of texts, each closed by a zero byte -----------------------------------------------------


class _Gateway:
    """A connection without a socket: messages are handed to the link as ``ib_async`` does."""

    def __init__(self) -> None:
        self.ib = IB()
        self.ib.client._serverVersion = VERSION
        self.handlers = dict(self.ib.client.decoder.handlers)

    def read(self, message: bytes) -> None:
        fields = message.decode(errors="backslashreplace").split("\0")[:-1]
        if not fields:
            return
        link, failed = Link("x", 1, 1), list[Exception]()
        link._ib, link._fail = self.ib, failed.append
        self.ib.wrapper._results = defaultdict(list)  # any number is that of a pending request
        take = {str(BARS): link._take, str(DETAILS): link._take_details}.get(fields[0])
        try:
            if take:
                take(fields, self.handlers[int(fields[0])])
        finally:
            link._runner.close()
        for error in failed:
            raise error


def _message(*fields: object) -> bytes:
    return "".join(f"{field}\0" for field in fields).encode()


def _messages() -> list[bytes]:
    day = ("20130107", "1.5", "1.7", "1.4", "1.6", "100", "1.5", "7")
    minute = ("1357657800", *day[1:])
    listings = (contracts._stock("IBM"), contracts.continuous("ES", date(2024, 3, 4)))
    details = [_message(DETAILS, 1, *contracts.details(one, VERSION)) for one in listings]
    return [
        _message(BARS, 1, "20130107  09:30:00", "20130108  16:00:00", 2, *day, *day),
        _message(BARS, 1, "20130107  09:30:00", "20130108  16:00:00", 1, *minute),
        _message(BARS, 1, "", "", 0),
        *details,
    ]


# -- the lake --------------------------------------------------------------------------------------------------------------------------


def _stored(write: Callable[[Lake], object]) -> list[bytes]:
    """Return the objects that ``write`` leaves in a lake."""
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(f"file://{folder}")
        write(lake)
        return [stored.body for key, _ in lake.list("") if (stored := lake.get(key))]


def _object(read: Callable[[Lake, str], object], key: str) -> Callable[[bytes], object]:
    """Return a parser of an object that is read from a lake."""

    def call(body: bytes) -> object:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            lake = Lake.open(f"file://{folder}")
            lake.put_new(key, body)
            return read(lake, key)

    return call


MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # faster than a disk
SYMBOLS = [("AAPL", lake_rows.D0), ("BRK.B", lake_rows.D0)]
CELLS = pa.table([["AAPL"], [lake_rows.D0], ["have"], [""]], schema=CELLS)
GAPS_KEY = f"repairs/ohlcv-1d/provider=polygon/{'0' * 16}.parquet"
GAPS = gap_list.GapList(
    "ohlcv-1d", "polygon", datetime(2024, 9, 17, tzinfo=UTC), pa.table([["AAPL"], [lake_rows.D0]], schema=gap_list.GAPS)
)
DECISION = decisions.Decision(decisions.Kind.RELEASE, "somebody", "checked", datetime(2024, 9, 17, tzinfo=UTC))


def _write_ledger(lake: Lake) -> None:
    run = RunInfo("polygon_ohlcv_1d", "manual", "manual", 0, datetime(2024, 9, 17, tzinfo=UTC))
    ledger.write_cells(lake, "ohlcv-1d", "polygon", run, "b001", CELLS, recorded_at=datetime(2024, 9, 17, tzinfo=UTC))


def _write_decision(lake: Lake) -> None:
    values = pa.table([["AAPL"], [lake_rows.D0], ["released"], [1]], schema=decisions.VALUES)
    decisions.write(lake, "ohlcv-1d", "polygon", DECISION, values)


def _read_everything(table: pa.Table) -> None:
    """Read what a decoder lets through, as the code behind it does."""
    table.validate(full=True)
    table.to_pylist()


# -- files of the user -----------------------------------------------------------------------------------------------------------------


def _file(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """Return a parser of a file."""

    def call(body: bytes) -> object:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            (Path(folder) / name).write_bytes(body)
            return read(Path(folder) / name)

    return call


def _universe(body: bytes) -> object:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None  # the caller reads the file as text
    return read_members(text, source="the universe")


def _conditions(body: bytes) -> object:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None  # the caller reads the response
    return read_conditions(found, WHERE) if isinstance(found, list) else None  # the caller takes lists only


def _targets() -> dict[str, Target]:
    bars, stanza = (
        lake_rows.bars(SYMBOLS),
        json.dumps({"defaults": {"universe": "dow30", "start_date": "2000-01-03"}, "feeds": [STANZA]}),
    )
    raw = parquet.encode(bars)
    files: dict[str, Any] = {
        "lake rows": (lambda body: _read_everything(parquet.decode_rows(body, "x.parquet", dataset("ohlcv-1d"))), [raw]),
        "lake ledger": (lambda body: _read_everything(ledger.decode_records(body, "x.parquet")), _stored(_write_ledger)),
        "lake receipt": (
            _object(receipts.read_one, "receipts/x.parquet"),
            _stored(lambda lake: receipts.write(lake, "receipts", some_receipts.absent("x"), some_receipts.objects(2))),
        ),
        "lake receipt footer": (
            lambda body: receipts.from_footer(body.decode(errors="replace")),
            [json.dumps(some_receipts.absent("x").to_json()).encode()],
        ),
        "lake gaps": (
            _object(lambda lake, key: gap_list.read_gaps(lake, key, "ohlcv-1d", "polygon"), GAPS_KEY),
            _stored(lambda lake: gap_list.write_gaps(lake, GAPS)),
        ),
        "lake decisions": (
            _object(lambda lake, _: decisions.read(lake, "ohlcv-1d", "polygon"), "decisions/ohlcv-1d/provider=polygon/x.parquet"),
            _stored(_write_decision),
        ),
        "lake failures": (
            lambda body: failures._readable("x.json", body),
            [json.dumps([failures.Event(failures.Kind.PROBE, "b001", datetime(2024, 9, 17, tzinfo=UTC)).to_json()]).encode()],
        ),
        "feeds.yaml": (_file(load_feeds, "feeds.yaml"), [(PROJECT / "include" / "feeds.yaml").read_bytes(), stanza.encode()]),
        "universe": (
            _universe,
            [body for body in TICKERS if body] + [b"symbol,added_date,removed_date,source\nAAPL,2024-01-02,,x\n"],
        ),
        "tickers csv": (_file(lambda file: load_tickers(str(file)), "t.csv"), TICKERS),
        "tickers txt": (_file(lambda file: load_tickers(str(file)), "t.txt"), [b"AAPL\nBRK.B\n# x\n", *TICKERS]),
        "ib message": (_Gateway().read, _messages()),
        "databento conditions": (
            _conditions,
            [b'[{"date":"2024-01-02","condition":"available","last_modified_date":"2024-01-03"}]'],
        ),
    }
    return {name: Target(*parts) for name, parts in {**DECODERS, **files}.items()}


TARGETS = _targets()
