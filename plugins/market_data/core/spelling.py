"""Spellings of US stocks with a suffix.

A suffix is a share class, a preferred stock, warrants, units, rights, or a special state of an issue. The exchanges have one list of
suffixes and several ways to write them; each vendor has chosen one. Source of the list, with the first three ways:
https://www.nasdaqtrader.com/Trader.aspx?id=CQSSymbolConvention. The suffix of the CMS (``PRK``, ``WS``, ``A``) is the name of a suffix
here, too.

====================  ===========  ==========  ========  ==========  ==========
issue                 `CANONICAL`  `NASDAQ`    `CMS`     `CQS`       `DASHED`
====================  ===========  ==========  ========  ==========  ==========
class B               BRK.B        BRK.B       BRK B     BRK.B       BRK-B
preferred             SBP.PR       SBP-        SBP PR    SBPp        SBP-P
preferred, series K   BAC.PRK      BAC-K       BAC PRK   BACpK       BAC-PK
warrants              AAC.WS       AAC+        AAC WS    AAC.WS      AAC-WT
warrants, series A    NE.WS.A      NE+A        NE WSA    NE.WS.A     NE-WTA
rights                AIIA.RT      AIIA^       AIIA RT   AIIAr       AIIA-RI
units                 AAC.U        AAC=        AAC U     AAC.U       AAC-UN
when issued           AAN.WI       AAN#        AAN WI    AANw        AAN-WI
when distributed      DD.WD        DD$         DD WD     DD.WD       DD-WD
====================  ===========  ==========  ========  ==========  ==========

A state follows any other suffix: ``BAC.PRK.WI`` is ``BAC-K#``, ``BAC PRKWI`` and ``BACpKw``. The fifth letter of a symbol of Nasdaq
(``AGNCP``, ``SNAXW``) is not a suffix: all vendors write it alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from string import ascii_uppercase

from market_data.core.instruments import Kind, kind_of

CLASSES = tuple(letter for letter in ascii_uppercase if letter not in "RUW")
"""Letters of share classes. R, U and W are rights, units and warrants in the exchanges' lists, and no class has them."""
PREFERRED, WARRANTS, RIGHTS, UNITS = "PR", "WS", "RT", "U"
KINDS = (
    *("", *CLASSES, PREFERRED, *(PREFERRED + letter for letter in ascii_uppercase)),
    *(WARRANTS, *(WARRANTS + letter for letter in ascii_uppercase), RIGHTS, UNITS),
)
STATES = {
    "": "",
    "WI": "when issued",
    "WD": "when distributed",
    "CL": "called",
    "CV": "convertible",
    "CVCL": "convertible, called",
    "EC": "emerging company",
    "PP": "partly paid",
    "TEST": "test issue",
}

STOCK = ":STK"
"""After a symbol: the stock, where the symbol alone may be another instrument. ``ES:STK`` is Eversource Energy, ``ES.c.0`` a future."""

_ROOT = re.compile(r"([A-Z][A-Z0-9]*)(.*)", re.ASCII | re.DOTALL)
_LONGEST_ROOT = 5
"""Characters of the root of a symbol with a suffix, at most."""


class SpellingError(ValueError):
    """A symbol that a provider cannot have, or that has several meanings.

    The message follows the symbol and says what to write.
    """


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue of a company.

    :param root: ``BAC``.
    :param kind: one of `KINDS`: ``PRK``; empty for the common stock.
    :param state: one of `STATES`, empty for a regular issue.
    """

    root: str
    kind: str = ""
    state: str = ""

    @property
    def words(self) -> str:
        """The suffix in words, e.g. ``preferred, series K``."""
        series = f", series {self.kind[2:]}" if len(self.kind) > 2 else ""
        names = {PREFERRED: "preferred", WARRANTS: "warrants", RIGHTS: "rights", UNITS: "units"}
        kind = f"class {self.kind}" if self.kind in CLASSES else names.get(self.kind[:2], "")
        return ", ".join(filter(None, (f"{kind}{series}", STATES[self.state]))) or "common stock"


@dataclass(frozen=True)
class Scheme:
    """A way to write suffixes.

    :param suffixes: kind and state of an issue -> its suffix; without those that cannot be written.
    """

    suffixes: Mapping[tuple[str, str], str]
    _issues: Mapping[str, tuple[str, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_issues", {suffix: meaning for meaning, suffix in self.suffixes.items()})

    def write(self, issue: Issue) -> str | None:
        """Return the symbol of an issue, or None if it cannot be written."""
        suffix = self.suffixes.get((issue.kind, issue.state))
        return None if suffix is None else issue.root + suffix

    def read(self, symbol: str) -> Issue | None:
        """Return the issue of a symbol, or None if this is not its spelling."""
        root, suffix = _split(symbol)
        return Issue(root, *self._issues[suffix]) if root and suffix in self._issues else None


def _split(symbol: str) -> tuple[str, str]:
    """Return root and suffix; both empty for symbols of other instruments."""
    found = _ROOT.fullmatch(symbol.removesuffix(STOCK))
    if not found or kind_of(symbol) is not Kind.STOCK or (found[2] and len(found[1]) > _LONGEST_ROOT):
        return "", ""
    return found[1], found[2]


def _made(kind: Callable[[str], str], states: Mapping[str, str]) -> Mapping[tuple[str, str], str]:
    return {(one, state): kind(one) + text for one in KINDS for state, text in states.items()}


def _by_kind(letter: str, preferred: str, warrants: str, series: str, others: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that writes a kind.

    ``series`` comes between the sign of warrants and their letter.
    """

    def written(kind: str) -> str:
        if kind in others:
            return others[kind]
        if kind in CLASSES:
            return letter + kind
        sign, rest = (preferred, kind[2:]) if kind.startswith(PREFERRED) else (warrants, kind[2:] and series + kind[2:])
        return sign + rest

    return written


_DOTS = {state: "".join(f".{part}" for part in ("CV", "CL")) if state == "CVCL" else state and f".{state}" for state in STATES}
_SIGNS = dict(zip(STATES, ("", "#", "$", "*", "%", "%*", "!", "@", "~"), strict=True))

CANONICAL = Scheme(_made(_by_kind(".", ".PR", ".WS", ".", {"": "", RIGHTS: ".RT", UNITS: ".U"}), _DOTS))
NASDAQ = Scheme(_made(_by_kind(".", "-", "+", "", {"": "", RIGHTS: "^", UNITS: "="}), _SIGNS))
CMS = Scheme({(kind, state): f" {kind}{state}" if kind or state else "" for kind in KINDS for state in STATES})
CQS = Scheme(_made(_by_kind(".", "p", ".WS", ".", {"": "", RIGHTS: "r", UNITS: ".U"}), {**_DOTS, "WI": "w"}))
_dashed = _by_kind("-", "-P", "-WT", "", {"": "", RIGHTS: "-RI", UNITS: "-UN"})
DASHED = Scheme(
    # Without class P: -P is the preferred stock without a series.
    {(kind, ""): _dashed(kind) for kind in KINDS if kind != "P"}
    | {(kind, "WI"): f"{_dashed(kind)}WI" for kind in (PREFERRED, WARRANTS, RIGHTS)}
    | {("", state): f"-{state}" for state in ("WI", "WD")}
)


@cache
def _meanings() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Return all suffixes that users write -> kind and state.

    Several where two ways to write contradict each other.
    """
    found: defaultdict[str, dict[tuple[str, str], None]] = defaultdict(dict)

    def add(suffixes: Iterable[tuple[str, tuple[str, str]]]) -> None:
        for suffix, meaning in suffixes:
            found[suffix][meaning] = None

    for scheme in (CANONICAL, CMS, CQS, DASHED, NASDAQ):
        add((suffix, meaning) for meaning, suffix in scheme.suffixes.items())
    add((suffix.replace(".", "/"), meaning) for meaning, suffix in CANONICAL.suffixes.items())
    add((suffix.replace(".WS.", ".WS"), meaning) for meaning, suffix in CANONICAL.suffixes.items())
    add((f".PR.{letter}", (PREFERRED + letter, "")) for letter in ascii_uppercase)
    add((suffix.replace(".", "-"), meaning) for meaning, suffix in CANONICAL.suffixes.items() if not meaning[1])
    # Nasdaq's lists of symbols (ACT): BAC$K, AAC.W, AIIA.R.
    add((f"${letter}", (PREFERRED + letter, "")) for letter in ("", *ascii_uppercase))
    add((sign + letter, (kind, "")) for sign in ".-" for letter, kind in (("W", WARRANTS), ("R", RIGHTS)))
    return {suffix: tuple(meanings) for suffix, meanings in found.items()}


def issues(symbol: str) -> tuple[Issue, ...]:
    """Return the issues that a symbol can mean, whichever of the ways to write was used.

    None for instruments that are no stocks, and for unknown suffixes.
    """
    root, suffix = _split(symbol)
    return tuple(Issue(root, *meaning) for meaning in _meanings().get(suffix, ())) if root else ()


def canonical(symbol: str) -> str:
    """Return the canonical spelling; a symbol with no or several meanings as it is."""
    found = issues(symbol)
    return (CANONICAL.write(found[0]) if len(found) == 1 else None) or symbol


def spelled(symbol: str, scheme: Scheme, vendor: str, refused: Iterable[str] = ()) -> str | None:
    """Return a vendor's spelling of a stock; None for symbols of other forms.

    A symbol in the vendor's own spelling stays as it is.

    :param vendor: the vendor's name, for messages.
    :param refused: states that the vendor does not list.
    :raises SpellingError: if the vendor has no spelling for it, or it has several meanings.
    """
    own = scheme.read(symbol)
    found = (own,) if own else issues(symbol)
    if not found:
        return None
    if len(found) > 1:
        choice = " or ".join(f"{CANONICAL.write(issue)} ({issue.words})" for issue in found)
        raise SpellingError(f"has several meanings: write {choice}")
    name = None if found[0].state in refused else scheme.write(found[0])
    if name is None:
        raise SpellingError(f"cannot be requested: {vendor} has no symbol for {found[0].words}; leave it out")
    return name
