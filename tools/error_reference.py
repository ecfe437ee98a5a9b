"""Write the types of errors in ``docs/reference/errors.md`` from ``core/errors.py``.

With ``--check`` only compare them.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT / "plugins"))

from market_data.core import errors  # noqa: E402 - the path is set above

PAGE = PROJECT / "docs" / "reference" / "errors.md"
BLOCK = re.compile(r"(<!-- types: [^\n]*-->\n).*?(<!-- /types -->)", re.DOTALL)
REACTIONS = {
    errors.RetriableError: "The request is retried, then the task.",
    errors.TerminalError: "The task fails now: no retry will help.",
    errors.PerCellError: "The cells get a state, and the run continues.",
}
"""Group of types -> what happens; the first of a type's bases counts."""


def types() -> list[type[errors.MarketDataError]]:
    """Return every type that is raised, in the order of the module; groups of types are left out."""
    found = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.MarketDataError)]
    groups = {errors.MarketDataError, errors.ProviderError, errors.DataError, *REACTIONS}
    return [one for one in found if one not in groups]


def section(kind: type[errors.MarketDataError]) -> str:
    """Return the section of a type; its heading is the anchor."""
    text = " ".join((inspect.getdoc(kind) or "").split()).replace("``", "`")
    reaction = next((words for base, words in REACTIONS.items() if issubclass(kind, base)), "")
    return f"### {kind.__name__}\n\n{' '.join(filter(None, (text, reaction)))}\n\n"


def written(text: str) -> str:
    """Return the page ``text`` with the present types."""
    return BLOCK.sub(lambda found: found[1] + "\n" + "".join(map(section, types())) + found[2], text)


def main(arguments: list[str]) -> int:
    """Write the page, or report that it differs; return the exit status."""
    text = PAGE.read_text(encoding="utf-8")
    if written(text) == text:
        return 0
    if "--check" in arguments:
        sys.stderr.write("docs/reference/errors.md differs from core/errors.py; run tools/error_reference.py\n")
        return 1
    PAGE.write_text(written(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
