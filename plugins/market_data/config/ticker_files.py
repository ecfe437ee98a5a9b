"""Read a user's file of symbols: CSV with a column `symbol` or `ticker`, or text."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import date

from market_data.config.symbol_tables import ADDED, REMOVED, Row, read_table
from market_data.config.symbols import MAX_SYMBOLS, symbol_problems, too_many
from market_data.config.universes import Member, order_problem, parse_date
from market_data.core.errors import ParamError
from market_data.core.messages import shortened, shown
from market_data.core.paths import ROOT

MAX_FILE_BYTES = 1_000_000
MAX_PATH = 200
"""Characters of a path that a message shows."""
FILE_ENDINGS = (".csv", ".txt")


def read_tickers(text: str, *, source: str) -> tuple[Member, ...]:
    """Return the symbols in a file with the dates of their membership, in its order.

    :param text: a CSV table (commas, semicolons or tabs) with a column ``symbol`` or ``ticker`` and perhaps ``added_date`` (first date of
        the membership), ``removed_date`` (first date after it) and ``primary_exchange``; or one symbol per line. A symbol may have
        several rows whose dates do not overlap. Blank lines, white space around a symbol and, in the second form, comments are ignored.
    :param source: the file's name, for the messages.
    :raises ParamError: listing every problem with its line; also if it holds no symbol.
    """
    try:
        rows = read_table(text).rows
    except csv.Error as error:
        raise ParamError([f"{source} is not readable as CSV: {error}"]) from None
    except ValueError as error:
        raise ParamError([f"{source}, {error}"]) from None
    problems: list[str] = []
    spans: dict[str, list[Member]] = {}
    named: list[tuple[str, str]] = []
    found: list[Member] = []
    for row in rows:
        place = f"{source}, line {row.line}"
        member, wrong = _member(row)
        problems += [f"{place}: {problem}" for problem in wrong]
        earlier = spans.setdefault(row.symbol, [])
        if not earlier or any(overlap(other, member) for other in earlier):
            named.append((place, row.symbol))
        earlier.append(member)
        found.append(member)
    if len(spans) > MAX_SYMBOLS:
        raise ParamError([too_many(source, len(spans))])
    problems += symbol_problems(named)
    if not found and not problems:
        problems = [f"{source} holds no symbols; a CSV column named symbol or ticker is needed, or one symbol per line"]
    if problems:
        raise ParamError(shortened(problems))
    return tuple(found)


def _member(row: Row) -> tuple[Member, list[str]]:
    """Return the member in a row, and the problems with its dates."""
    problems: list[str] = []
    dates: dict[str, date | None] = {}
    for name, cell in ((ADDED, row.added), (REMOVED, row.removed)):
        try:
            dates[name] = parse_date(cell)
        except ValueError as error:
            problems.append(f"{name} {error}")
    member = Member(row.symbol, dates.get(ADDED), dates.get(REMOVED), exchange=row.exchange)
    return member, [*problems, *filter(None, [order_problem(member)])]


def overlap(one: Member, other: Member) -> bool:
    """Return true if two memberships of a symbol hold at once.

    One that begins at an unknown date may follow another that ended.
    """
    first, second = sorted((one, other), key=lambda row: (row.added or date.min, row.removed or date.max))
    return first.removed is None or (second.added is not None and second.added < first.removed)


def load_tickers(path: str, open_s3: Callable[[str], bytes] | None = None) -> tuple[Member, ...]:
    """Return the symbols in the file at ``path``, with the dates of their membership.

    :param path: an ``s3://`` URL or a local path, relative to the project's folder. It must end in ``.csv`` or ``.txt`` and not be
        hidden, so that no message can show a line of another kind of file (a configuration with secrets, say).
    :param open_s3: returns the bytes behind an ``s3://`` URL, at least the first :data:`MAX_FILE_BYTES` + 1.
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
    return read_tickers(text, source=shown(path, MAX_PATH))


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
