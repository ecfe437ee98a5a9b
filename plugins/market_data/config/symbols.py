"""The spellings of symbols that are accepted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from market_data.core.messages import shortened, shown
from market_data.core.spelling import CMS, canonical, issues

MAX_SYMBOLS = 25_000
"""Symbols per list or file: more than all stocks and ETFs that trade in the US, and few enough to check and plan in a second."""
MAX_SYMBOL_LENGTH = 32

# Stocks have a root and perhaps a suffix, in any of the spellings of `core.spelling`: BRK.B, BAC.PRK, BACpK, AAC+, AAC=, "BRK B". Other
# instruments have the vendors' own spellings: ^GSPC; X:BTCUSD; ES.c.0; "AAPL  240119C00150000".
_SYMBOL = re.compile(r"\^?[A-Z0-9][A-Za-z0-9.\-^:/]*", re.ASCII)
_SUFFIXED = re.compile(r"[A-Z][A-Za-z0-9.\-^:/+=#$]*", re.ASCII)
_ALLOWED = "A-Z or 0-9 first (after ^ for an index), then letters, digits, . - ^ : /"
_SIGNS = "; + = # and $ only in a known suffix, e.g. AAC+ (warrants), AAC= (units), AAN# (when issued)"
# With spaces: the OCC's option symbol (root padded to 6, yymmdd, C or P, strike in 8 digits), and the suffixes of the CMS. "AAPL F" and
# "IBM CL" are two tickers each: no stock has a class F, and a state alone is seldom meant.
_OPTION = re.compile(r"(?=.{21}$)[A-Z][A-Z0-9]{0,5} {0,5}[0-9]{6}[CP][0-9]{8}")
_SPACED_LIKE = "'BRK B' (class B), 'BAC PRK', 'AAC WS' and 'AAPL  240119C00150000'"


def symbol_problem(symbol: object) -> str | None:
    """Return the problem with a symbol, in words that follow its name, or None."""
    if not isinstance(symbol, str):
        return "is not text; a symbol in quotes is needed"
    if not symbol.strip():
        return "is empty"
    if len(symbol) > MAX_SYMBOL_LENGTH:
        return f"has {len(symbol)} characters; at most {MAX_SYMBOL_LENGTH} are allowed"
    if symbol != symbol.strip():
        return "has white space around it"
    return None if _is_spaced(symbol) else _spelling_problem(symbol)


def _is_spaced(symbol: str) -> bool:
    own = CMS.read(symbol) if " " in symbol else None
    return bool(_OPTION.fullmatch(symbol) or (own and (own.kind or own.state == "WI") and own.kind != "F"))


def _spelling_problem(symbol: str) -> str | None:
    if re.search(r"[ \t,;]", symbol):
        return f"is not one symbol; one symbol per line is needed, and spaces only as in {_SPACED_LIKE}"
    if ".." in symbol or not (_SYMBOL.fullmatch(symbol) or (_SUFFIXED.fullmatch(symbol) and issues(symbol))):
        hint = f"; symbols are case sensitive, is {symbol.upper()!r} meant?" if _SYMBOL.fullmatch(symbol.upper()) else ""
        signs = _SIGNS if re.search(r"[+=#$]", symbol) else ""
        return f"is not a symbol; allowed: {_ALLOWED}{signs}{hint}"
    return None


def check_symbols(symbols: Sequence[object], field: str = "symbols") -> list[str]:
    """Return a sentence per invalid or repeated symbol.

    At most :data:`market_data.core.messages.MAX_PROBLEMS` sentences.

    :param field: the name of the list in the sentences.
    """
    if isinstance(symbols, str):
        return [f"{field} is the text {shown(symbols)}; a list of symbols is needed"]
    if len(symbols) > MAX_SYMBOLS:
        return [too_many(field, len(symbols))]
    return shortened(symbol_problems((f"{field}: item {n}", symbol) for n, symbol in enumerate(symbols, 1)))


def symbol_problems(found: Iterable[tuple[str, object]]) -> list[str]:
    """Return a sentence per symbol that is not allowed or occurs a second time, from (place, symbol).

    Two spellings of one stock are the same symbol.
    """
    problems: list[str] = []
    first: dict[str, tuple[str, object]] = {}
    for place, symbol in found:
        problem = symbol_problem(symbol)
        name = canonical(symbol) if problem is None and isinstance(symbol, str) else ""
        if problem is None and name in first:
            where, other = first[name]
            problem = f"occurs twice, first at {where}" + (
                "" if other == symbol else f" as {shown(other)}: two spellings of one stock"
            )
        if problem is None:
            first[name] = place, symbol
        else:
            problems.append(f"{place}: {shown(symbol)} {problem}")
    return problems


def too_many(field: str, count: int) -> str:
    return f"{field} has {count:,} symbols; at most {MAX_SYMBOLS:,} are allowed"
