"""Pages and CSV files of an index, structured as the public ones.

They come in the variants that these had over the years.

The content is generated. Only the structure is recorded: tables by id, a header of two rows for the changes, merged cells, foot notes,
invisible characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from itertools import groupby

NBSP, SOFT_HYPHEN = "\xa0", "\xad"
VARIANTS = ("today", "older", "oldest", "messy")


@dataclass(frozen=True, slots=True)
class Company:
    """A row of the constituents."""

    symbol: str
    name: str = ""
    added: date | None = None
    cik: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A row of the changes; symbols may be empty."""

    day: date
    added: str = ""
    removed: str = ""
    reason: str = "Market capitalization change."
    added_name: str = ""
    removed_name: str = ""


def page(companies: Sequence[Company], changes: Sequence[Change] = (), variant: str = "today") -> str:
    """Return a page.

    :param variant: ``today``; ``older`` and ``oldest`` have other labels and dates; ``messy`` has everything that people paste into cells.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant is {variant!r}; allowed: {', '.join(VARIANTS)}")
    parts = [_constituents(companies, variant), _changes(changes, variant) if changes else ""]
    box = '<table class="infobox"><tr><th>Operator</th><td>An index company</td></tr><tr><th>Trading symbol</th><td>^IDX</td></tr></table>'
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="UTF-8"/><title>List of companies - Encyclopedia</title>'
        "<style>.x{color:red}</style><script>var a = '<table id=\"constituents\">';</script></head>"
        f"<body>{box}<h2>Components</h2>{parts[0]}<h2>Selected changes</h2>{parts[1]}</body></html>\n"
    )


def _constituents(companies: Iterable[Company], variant: str) -> str:
    labels = {
        "today": ("Symbol", "Security", "Date added", "CIK"),
        "older": ("Ticker symbol", "Security", "Date first added<sup>[3]</sup>", "CIK"),
        "oldest": ("Ticker Symbol", "Company", "Date first added", "CIK"),
        "messy": (
            f"Sym{SOFT_HYPHEN}bol",
            f"Secu{SOFT_HYPHEN}rity",
            f"Date{NBSP}added",
            '<abbr title="Central Index Key">CIK</abbr>',
        ),
    }[variant]
    head = "".join(f"<th>{label}</th>" for label in (*labels[:2], "GICS Sector", labels[2], labels[3], "Founded"))
    rows = "".join(_company(one, variant) for one in companies)
    return f'<table class="wikitable sortable" id="constituents"><tbody><tr>{head}</tr>{rows}</tbody></table>'


def _company(one: Company, variant: str) -> str:
    symbol, name, added = (
        escape(one.symbol),
        escape(one.name or f"{one.symbol} Company"),
        one.added.isoformat() if one.added else "",
    )
    link = f'<a rel="nofollow" class="external text" href="https://exchange.example/quote/{symbol}">{symbol}</a>'
    if variant == "messy":
        link = f'<span style="display:none">!{symbol}</span>{link}\u200b<sup id="cite_ref-1" class="reference"><a href="#n">[a]</a></sup>'
        added = f'{NBSP}{added}<sup class="reference">[12]</sup>'
        name = f"{name}{NBSP}<!-- a comment -->"
    elif variant == "oldest":
        link = f"NYSE:{NBSP}{link}"
    cells = (link, f'<a href="/wiki/x" title="{name}">{name}</a>', "Industrials", added, one.cik, "1902 (1888)")
    return "<tr>" + "".join(f"<td>{cell}\n</td>" for cell in cells) + "</tr>\n"


def _changes(changes: Sequence[Change], variant: str) -> str:
    first = {"today": "Effective Date", "older": "Date", "oldest": "Date", "messy": f"Effective{NBSP}date<sup>[5]</sup>"}[variant]
    if variant == "oldest":
        labels = ("Date", "Added ticker", "Added security", "Removed ticker", "Removed security", "Reason")
        head = "<tr>" + "".join(f"<th>{label}</th>" for label in labels) + "</tr>"
    else:
        ticker = "Ticker" if variant != "older" else "Symbol"
        head = (
            f'<tr><th rowspan="2">{first}</th><th colspan="2">Added</th><th colspan="2">Removed</th><th rowspan="2">Reason</th></tr>'
            f"<tr><th>{ticker}</th><th>Security</th><th>{ticker}</th><th>Security</th></tr>"
        )
    rows = []
    for day, group in groupby(sorted(changes, key=lambda one: one.day, reverse=True), key=lambda one: one.day):
        same = list(group)
        merged = variant in ("today", "messy") and len(same) > 1
        for number, one in enumerate(same):
            span = f' rowspan="{len(same)}"' if merged else ""
            cells = [f"<td{span}>{_date(day, variant)}</td>"] if not merged or number == 0 else []
            cells += [f"<td>{_cell(one.added, variant)}</td>", f"<td>{escape(one.added_name or _name(one.added))}</td>"]
            cells += [f"<td>{_cell(one.removed, variant)}</td>", f"<td>{escape(one.removed_name or _name(one.removed))}</td>"]
            cells.append(f'<td>{escape(one.reason)}<sup class="reference">[{number}]</sup></td>')
            rows.append("<tr>" + "\n".join(cells) + "</tr>")
    return f'<table class="wikitable sortable" id="changes"><tbody>{head}{"".join(rows)}</tbody></table>'


def _date(day: date, variant: str) -> str:
    text = {
        "today": f"{day:%B} {day.day}, {day.year}",
        "older": f"{day:%b}. {day.day}, {day.year}",
        "oldest": f"{day.day} {day:%B} {day.year}",
        "messy": f'<span data-sort-value="{day}">{day:%B}{NBSP}{day.day},<br/>{day.year}</span><sup class="reference">[7]</sup>',
    }
    return text[variant]


def _cell(symbol: str, variant: str) -> str:
    return f"<b>{escape(symbol)}</b>\u200e{NBSP}<sup>[9]</sup>" if variant == "messy" and symbol else escape(symbol)


def _name(symbol: str) -> str:
    return f"{symbol} Company" if symbol else ""


def constituents_csv(companies: Iterable[Company]) -> str:
    """Return the public file of today's members: its CIKs have lost the leading zeros."""
    rows = [
        f'{one.symbol},"{one.name or one.symbol}",Industrials,X,"Saint Paul, Minnesota",{one.added or ""},{one.cik.lstrip("0")},1902'
        for one in companies
    ]
    return "\n".join(["Symbol,Security,GICS Sector,GICS Sub-Industry,Headquarters Location,Date added,CIK,Founded", *rows, ""])


def memberships_csv(rows: Iterable[tuple[str, date, date | None]]) -> str:
    """Return a file of memberships: symbol, first date, first date after it."""
    return "\n".join(["ticker,start_date,end_date", *(f"{symbol},{start},{end or ''}" for symbol, start, end in rows), ""])
