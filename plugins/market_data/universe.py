"""Universes (named, point-in-time sets of symbols) and what a symbol may look like.

A universe is a CSV file in ``include/universes``, its name that of the file; a member is a row::

    symbol,added_date,removed_date,source

``added_date`` is the first date the symbol belongs to it, ``removed_date`` the first on which it no longer does; empty means
unknown. A symbol that left and came back has two rows. More columns may follow and are ignored.

**Survivorship bias**: the files that come with this project hold the members on the day they were written, without dates. Who was
a member in 2012 and has since been acquired, gone bankrupt or been replaced is missing, so a study of the past over ``sp500_etf``
sees survivors only. :func:`update` dates every change from now on; a file with the history, from whatever source, takes its place
without a change of code.

Symbols are case sensitive (Polygon's preferred shares are written ``KIMpL``) and never changed: what is not legal is refused.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path

from market_data.errors import ConfigError, ParamError

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = Path(os.environ.get("MARKET_DATA_INCLUDE") or ROOT / "include")
"""The project's ``include`` folder."""
FOLDER = INCLUDE / "universes"

MAX_SYMBOLS = 25_000
"""Of a list or a file: more than all stocks and ETFs that trade in the US, and few enough to check and plan in a second."""
MAX_SYMBOL_LENGTH = 32
MAX_FILE_BYTES = 1_000_000
MAX_PROBLEMS = 20
MAX_PATH = 200
"""Characters of a path that a message shows."""
FILE_ENDINGS = (".csv", ".txt")

# The vendors' own spellings: BRK.B, BRK-B, BRK/B and "BRK B"; ^GSPC; X:BTCUSD; ES.c.0; "AAPL  240119C00150000".
_SYMBOL = re.compile(r"\^?[A-Z0-9][A-Za-z0-9.\-^:/]*", re.ASCII)
_ALLOWED = "A-Z or 0-9 first (after ^ for an index), then letters, digits, . - ^ : /"
# With spaces: the OCC's option symbol (root padded to 6, yymmdd, C or P, strike in 8 digits), and the share classes of the CMS and of
# Interactive Brokers. Only classes A to C: "AAPL F" is two tickers.
_SPACED = re.compile(r"(?=.{21}$)[A-Z][A-Z0-9]{0,5} {0,5}[0-9]{6}[CP][0-9]{8}|[A-Z]{1,5} [A-C]")
_SPACED_LIKE = "'BRK B' (class A, B or C) and 'AAPL  240119C00150000'"

# 20 widely used US ETFs: large companies, other parts of the market, abroad, bonds, metals, sectors.
ETFS = (
    *("DIA", "IVV", "SPY", "VOO"),
    *("IWM", "QQQ", "VTI"),
    *("EEM", "EFA", "VEA", "VWO"),
    *("AGG", "BND", "HYG", "LQD", "TLT"),
    *("GLD", "SLV"),
    *("XLF", "XLK"),
)


@dataclass(frozen=True, slots=True)
class Member:
    """A symbol's membership of a universe from ``added`` (inclusive) to ``removed`` (exclusive); None is unknown."""

    symbol: str
    added: date | None = None
    removed: date | None = None
    source: str = ""

    def on(self, day: date) -> bool:
        """Whether it is a member on ``day``; an unknown date counts as always."""
        return (self.added is None or self.added <= day) and (self.removed is None or day < self.removed)


def known(folder: Path = FOLDER) -> tuple[str, ...]:
    """The names of all universes, sorted."""
    return tuple(sorted(path.stem for path in folder.glob("*.csv")))


def members(name: str, as_of: date | None = None, folder: Path = FOLDER) -> tuple[str, ...]:
    """The symbols of a universe, sorted, each once.

    :param name: one of :func:`known`.
    :param as_of: the date of interest; None: everyone who has not been removed.
    :raises ParamError: if there is no such universe.
    :raises ConfigError: if its file is wrong; lists every problem with its line.
    """
    if name not in known(folder):
        raise ParamError([f"universe is {shown(name)}; known universes: {', '.join(known(folder)) or f'none in {folder}'}"])
    rows = read_members((folder / f"{name}.csv").read_text(encoding="utf-8-sig"), source=f"{name}.csv")
    return tuple(sorted({row.symbol for row in rows if (row.removed is None if as_of is None else row.on(as_of))}))


def symbol_problem(symbol: object) -> str | None:
    """What is wrong with a symbol, in words that follow its name, or None."""
    if not isinstance(symbol, str):
        return f"is a {type(symbol).__name__}; text is needed"
    if not symbol.strip():
        return "is empty"
    if len(symbol) > MAX_SYMBOL_LENGTH:
        return f"has {len(symbol)} characters; at most {MAX_SYMBOL_LENGTH} are allowed"
    if symbol != symbol.strip():
        return "has white space around it"
    return None if _SPACED.fullmatch(symbol) else _spelling_problem(symbol)


def _spelling_problem(symbol: str) -> str | None:
    if re.search(r"[ \t,;]", symbol):
        return f"is not one symbol; one symbol a line is needed, and spaces only as in {_SPACED_LIKE}"
    if ".." in symbol or not _SYMBOL.fullmatch(symbol):
        hint = f"; symbols are case sensitive, is {symbol.upper()!r} meant?" if _SYMBOL.fullmatch(symbol.upper()) else ""
        return f"is not a symbol; allowed: {_ALLOWED}{hint}"
    return None


def check_symbols(symbols: Sequence[object], field: str = "symbols") -> list[str]:
    """One sentence for every symbol that is not legal or stands there twice, of the first :data:`MAX_PROBLEMS`; nothing where all
    are well.

    :param field: the name of the list in the sentences.
    """
    if isinstance(symbols, str):
        return [f"{field} is the text {shown(symbols)}; a list of symbols is needed"]
    if len(symbols) > MAX_SYMBOLS:
        return [_too_many(field, len(symbols))]
    return shortened(_problems((f"{field}: item {n}", symbol) for n, symbol in enumerate(symbols, 1)))


def read_tickers(text: str, *, source: str, today: date) -> tuple[str, ...]:
    """The symbols in a file, in its order.

    :param text: a CSV table (commas, semicolons or tabs) with a column ``symbol`` or ``ticker``; or one symbol a line. Blank lines,
        white space around a symbol and, in the second form, ``#`` and what follows it are left aside. So are rows
        of a table that has a column ``added_date`` with a date after ``today`` (not yet a member) or ``removed_date`` with one up to
        ``today`` (whoever has left).
    :param source: the file's name, for the messages.
    :param today: the New York date.
    :raises ParamError: listing every problem with its line; also where no symbol is left.
    """
    try:
        rows = list(_rows(text.removeprefix("\ufeff")))
    except csv.Error as error:
        raise ParamError([f"{source} is not readable as CSV: {error}"]) from None
    except ValueError as error:
        raise ParamError([f"{source}, {error}"]) from None
    problems: list[str] = []
    found: list[tuple[str, str]] = []
    for line, symbol, dates in rows:
        place = f"{source}, line {line}"
        read: dict[str, date | None] = {}
        for name, cell in dates.items():
            try:
                read[name] = _date(cell)
            except ValueError as error:
                problems.append(f"{place}: {name} {error}")
        if len(read) == len(dates) and Member(symbol, read.get("added_date"), read.get("removed_date")).on(today):
            found.append((place, symbol))
    if len(found) > MAX_SYMBOLS:
        raise ParamError([_too_many(source, len(found))])
    problems += _problems(found)
    if not found and not problems:
        problems = [f"{source} holds no symbols; a CSV column named symbol or ticker is needed, or one symbol a line"]
    if problems:
        raise ParamError(shortened(problems))
    return tuple(symbol for _, symbol in found)


def load_tickers(path: str, open_s3: Callable[[str], bytes] | None = None, *, today: date) -> tuple[str, ...]:
    """The symbols in the file at ``path``.

    :param path: an ``s3://`` URL or a local path, relative to the project's folder; it ends in ``.csv`` or ``.txt`` and is no hidden
        file, so that no message can ever show a line of a file that is something else (a configuration with secrets, say).
    :param open_s3: gives the bytes behind an ``s3://`` URL, at least the first :data:`MAX_FILE_BYTES` + 1.
    :param today: the New York date, as :func:`read_tickers` takes it.
    :raises ParamError: if it cannot be read, or as :func:`read_tickers` does.
    """
    where, name = f"tickers_path is {shown(path, MAX_PATH)}", path.rsplit("/", 1)[-1]
    if "://" in path and "@" in path:
        raise ParamError(["tickers_path holds an @, perhaps after a password; credentials belong into the connection aws_default"])
    if not path.isprintable() or not path.lower().endswith(FILE_ENDINGS) or name.startswith("."):
        raise ParamError(
            [f"{where}; the name of a file that ends in {' or '.join(FILE_ENDINGS)} and does not begin with . is needed"]
        )
    if path.startswith("s3://"):
        if open_s3 is None:
            raise ParamError([f"{where}; S3 cannot be read here"])
        body = open_s3(path)
    else:
        body = _read_local(path)
    if len(body) > MAX_FILE_BYTES:
        raise ParamError([f"{where}; it has more than {MAX_FILE_BYTES:,} bytes, the most allowed"])
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParamError([f"{where}; it is not UTF-8 text: byte {error.start + 1} is {body[error.start]:#04x}"]) from None
    return read_tickers(text, source=shown(path, MAX_PATH), today=today)


def read_members(text: str, *, source: str) -> tuple[Member, ...]:
    """The rows of a universe file.

    :param source: the file's name, for the messages.
    :raises ConfigError: listing every problem with its line.
    """
    table = csv.DictReader(io.StringIO(text))
    missing = {"symbol", "added_date", "removed_date"} - set(table.fieldnames or ())
    if missing:
        raise ConfigError(
            f"{source}: columns {', '.join(sorted(missing))} are missing; symbol, added_date, removed_date are needed"
        )
    rows: list[Member] = []
    problems: list[str] = []
    for record in table:
        try:
            row = Member(record["symbol"], _date(record["added_date"]), _date(record["removed_date"]), record.get("source") or "")
        except ValueError as error:
            problems.append(f"line {table.line_num}: {error}")
            continue
        problem = symbol_problem(row.symbol)
        if problem:
            problems.append(f"line {table.line_num}: {shown(row.symbol)} {problem}")
        if row.added and row.removed and row.added >= row.removed:
            problems.append(
                f"line {table.line_num}: {row.symbol} is removed on {row.removed}, not after it was added on {row.added}"
            )
        rows.append(row)
    problems += _overlaps(rows)
    if problems:
        raise ConfigError("\n  ".join([f"{source} is not a universe:", *shortened(problems)]))
    return tuple(rows)


def write_members(rows: Iterable[Member], *, sources: bool = True) -> str:
    """``rows`` as the text of a universe file, sorted; :func:`read_members` reads it back.

    :param sources: whether there is a column ``source``.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    width = 4 if sources else 3
    table.writerow(["symbol", "added_date", "removed_date", "source"][:width])
    for row in sorted(rows, key=lambda row: (row.symbol, row.added or date.min)):
        table.writerow([row.symbol, row.added or "", row.removed or "", row.source][:width])
    return out.getvalue()


def update(rows: Iterable[Member], wanted: Mapping[str, str], day: date, *, begins: date | None = None) -> tuple[Member, ...]:
    """``rows`` brought up to date: on ``day``, exactly the symbols in ``wanted`` are members.

    Who is new is added on ``day`` and who is gone removed on it; what was before stays.

    :param wanted: symbol -> source.
    :param begins: where there are no rows yet, since when the first ones are members; None: nothing is known of the past.
    """
    rows = list(rows)
    since = day if rows else begins
    kept = [replace(row, removed=day) if row.removed is None and row.symbol not in wanted else row for row in rows]
    kept = [row for row in kept if row.added is None or row.added != row.removed]  # came and went on the same day
    new = wanted.keys() - {row.symbol for row in kept if row.removed is None}
    return (*kept, *(Member(symbol, added=since, source=wanted[symbol]) for symbol in sorted(new)))


@dataclass(frozen=True, slots=True)
class IndexChange:
    """What became of an index file.

    :param text: what is to be written, or None where its members are those it has.
    :param added: who is new. ``removed``: who is gone. Both sorted.
    """

    text: str | None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def update_index(text: str | None, symbols: Iterable[str], day: date, *, source: str) -> IndexChange:
    """An index file (columns ``symbol``, ``added_date``, ``removed_date``) brought up to date.

    Who is new on ``day`` is added on it, in the first file everyone; who is gone is removed on it; standing ones keep their dates.

    :param text: the file as it stands, or None.
    :param source: its name, for the messages.
    :raises ConfigError: if the standing file is wrong; lists every problem with its line.
    """
    rows = read_members(text.removeprefix("\ufeff"), source=source) if text is not None else ()
    wanted, standing = set(symbols), {row.symbol for row in rows if row.removed is None}
    if wanted == standing:
        return IndexChange(None)
    revised = write_members(update(rows, dict.fromkeys(wanted, ""), day, begins=day), sources=False)
    return IndexChange(revised, tuple(sorted(wanted - standing)), tuple(sorted(standing - wanted)))


def sp500_etf_symbols() -> tuple[str, ...]:
    """Today's S&P 500 as ``pytickersymbols`` has it, without network, and :data:`ETFS`; sorted."""
    return tuple(sorted({*_index("S&P 500"), *ETFS}))


def dow30_symbols() -> tuple[str, ...]:
    """Today's Dow Jones Industrial Average as ``pytickersymbols`` has it, without network; sorted."""
    return tuple(sorted(_index("DOW JONES")))


LISTS: dict[str, Callable[[], tuple[str, ...]]] = {
    "dow30": dow30_symbols,
    "etf20": lambda: tuple(sorted(ETFS)),
    "sp500_etf": sp500_etf_symbols,
}


def refresh(day: date, folder: Path = FOLDER) -> None:
    """Bring the files of this project's universes up to ``day``, after an update of ``pytickersymbols``.

    ::

        PYTHONPATH=plugins python -c "from datetime import date; from market_data import universe; universe.refresh(date.today())"
    """
    for name, symbols in LISTS.items():
        path = folder / f"{name}.csv"
        rows = read_members(path.read_text(encoding="utf-8-sig"), source=path.name) if path.exists() else ()
        wanted = {symbol: "airflow-market-data" if symbol in ETFS else "pytickersymbols" for symbol in symbols()}
        path.write_text(write_members(update(rows, wanted, day)), encoding="utf-8")


def _index(name: str) -> Iterator[str]:
    from pytickersymbols import PyTickerSymbols

    return (stock["symbol"] for stock in PyTickerSymbols().get_stocks_by_index(name))


def _read_local(path: str) -> bytes:
    where = f"tickers_path is {shown(path, MAX_PATH)}"
    try:
        file = (ROOT / path).resolve()  # a link must not lead to a file of another kind
        if not file.is_file() or file.suffix.lower() not in FILE_ENDINGS or file.name.startswith("."):
            raise ParamError([f"{where}; there is no such file; relative paths start at the project's folder"])
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise ParamError([f"{where}; it cannot be read: {getattr(error, 'strerror', None) or error}"]) from None


def _rows(text: str) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Line number, symbol, and the text of those columns ``added_date`` and ``removed_date`` there are, for every line that holds a
    symbol.

    :raises ValueError: if it is a table without a column of symbols.
    """
    lines = list(io.StringIO(text, newline=None))  # str.splitlines would also split at control characters
    head = next((n for n, line in enumerate(lines) if line.split("#")[0].strip()), len(lines))
    if head == len(lines):
        return
    delimiter = max(",;\t", key=lines[head].count)
    columns = [cell.strip().lower() for cell in next(csv.reader([lines[head]], delimiter=delimiter))]
    column = next((n for n, name in enumerate(columns) if name in ("symbol", "ticker")), None)
    if column is None and delimiter in lines[head].split("#")[0].strip():
        raise ValueError(f"line {head + 1} has the columns {shown(', '.join(columns))}; one named symbol or ticker is needed")
    if column is None:
        for number, line in enumerate(lines, 1):
            if symbol := line.split("#")[0].strip():
                yield number, symbol, {}
        return
    dates = {name: columns.index(name) for name in ("added_date", "removed_date") if name in columns}
    table = csv.reader(lines[head + 1 :], delimiter=delimiter)
    for cells in table:
        if any(cell.strip() for cell in cells):
            padded = [cell.strip() for cell in cells] + [""] * len(columns)
            yield head + 1 + table.line_num, padded[column], {name: padded[place] for name, place in dates.items()}


def _problems(found: Iterable[tuple[str, object]]) -> list[str]:
    """Sentences about symbols that are not legal or not the first of their kind, from (place, symbol)."""
    problems: list[str] = []
    first: dict[object, str] = {}
    for place, symbol in found:
        problem = symbol_problem(symbol)
        if problem is None and symbol in first:
            problem = f"is there twice, first at {first[symbol]}"
        if problem is None:
            first[symbol] = place
        else:
            problems.append(f"{place}: {shown(symbol)} {problem}")
    return problems


def _overlaps(rows: Sequence[Member]) -> list[str]:
    ordered = sorted(rows, key=lambda row: (row.symbol, row.added or date.min))
    return [
        f"{left.symbol} has two rows that hold at once"
        for left, right in pairwise(ordered)
        if left.symbol == right.symbol and (left.removed is None or right.added is None or right.added < left.removed)
    ]


def shortened(problems: Sequence[str]) -> list[str]:
    """The first :data:`MAX_PROBLEMS`, and how many more there are."""
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"and {more:,} more"] if more > 0 else [])]


def shown(value: object, width: int = 60) -> str:
    """A value for a message: printable, of ``width`` characters at most."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = value.isoformat() if isinstance(value, date) else ascii(value)
    return text if len(text) <= width else f"{text[: width - 4]}...{text[-1]}"


def _too_many(field: str, count: int) -> str:
    return f"{field} has {count:,} symbols; at most {MAX_SYMBOLS:,} are allowed"


def _date(text: str | None) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{shown(text)} is not a date; ISO dates are needed, e.g. 2026-11-02") from None
