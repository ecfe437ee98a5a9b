"""Read a user's file of symbols: CSV with a column `symbol` or `ticker`, or text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from datetime import date

from market_data.config.symbols import MAX_SYMBOLS, symbol_problems, too_many
from market_data.config.universes import Member, parse_date
from market_data.core.errors import ParamError
from market_data.core.messages import shortened, shown
from market_data.core.paths import ROOT

MAX_FILE_BYTES = 1_000_000
MAX_PATH = 200
"""Characters of a path that a message shows."""
FILE_ENDINGS = (".csv", ".txt")


def read_tickers(text: str, *, source: str, today: date) -> tuple[str, ...]:
    """Return the symbols in a file, in its order.

    :param text: a CSV table (commas, semicolons or tabs) with a column ``symbol`` or ``ticker``; or one symbol per line. Blank lines,
        white space around a symbol and, in the second form, comments from ``#`` on are ignored. So are table rows with an
        ``added_date`` after ``today`` (not a member yet) or a ``removed_date`` up to ``today`` (no longer a member).
    :param source: the file's name, for the messages.
    :param today: the New York date.
    :raises ParamError: listing every problem with its line; also if no symbol is left.
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
                read[name] = parse_date(cell)
            except ValueError as error:
                problems.append(f"{place}: {name} {error}")
        if len(read) == len(dates) and Member(symbol, read.get("added_date"), read.get("removed_date")).on(today):
            found.append((place, symbol))
    if len(found) > MAX_SYMBOLS:
        raise ParamError([too_many(source, len(found))])
    problems += symbol_problems(found)
    if not found and not problems:
        problems = [f"{source} holds no symbols; a CSV column named symbol or ticker is needed, or one symbol per line"]
    if problems:
        raise ParamError(shortened(problems))
    return tuple(symbol for _, symbol in found)


def load_tickers(path: str, open_s3: Callable[[str], bytes] | None = None, *, today: date) -> tuple[str, ...]:
    """Return the symbols in the file at ``path``.

    :param path: an ``s3://`` URL or a local path, relative to the project's folder. It must end in ``.csv`` or ``.txt`` and not be
        hidden, so that no message can show a line of another kind of file (a configuration with secrets, say).
    :param open_s3: returns the bytes behind an ``s3://`` URL, at least the first :data:`MAX_FILE_BYTES` + 1.
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
    """Yield line number, symbol and, if present, ``added_date`` and ``removed_date`` as text.

    Lines without a symbol are skipped.

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
