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
REACTIONS: dict[type[errors.MarketDataError], str] = {
    errors.RetriableError: "The request is retried, then the task.",
    errors.TerminalError: "The task fails now: no retry will help.",
    errors.PerCellError: "The cells get a state, and the run continues.",
}
"""Group of types -> what happens; the first of a type's bases counts."""
ADVICE: dict[type[errors.MarketDataError], str] = {
    errors.MarketDataError: "The message has the next step.",
    errors.ProviderError: "The message has the next step.",
    errors.RetriableError: "Retried automatically; if it persists, the message has the next step.",
    errors.TerminalError: "The message has the next step.",
    errors.PerCellError: "The report lists the cells.",
    errors.DataError: "The message names the rows, and what is wrong with them.",
    errors.ConfigError: "`market-data check-config` lists all such problems. Correct them, then clear the failed tasks.",
    errors.ClockError: "Set the clock of the worker (NTP), then clear the failed tasks.",
    errors.ParamError: "Trigger the run again with other [params](params.md).",
    errors.UnknownSymbol: "Correct the spelling, or the symbol's dates in [its universe](../tasks/add-my-ticker-list.md).",
    errors.NotYetAvailable: "Nothing: a scheduled run requests the session again.",
    errors.SchemaDrift: "Compare the fields in the message with the provider's documentation; this package may need an upgrade.",
    errors.QualityError: "The message lists what is missing; [yesterday is red](../tasks/yesterday-is-red.md) has the next steps.",
    errors.LakeError: "If it persists after the task's retries, check the connection `aws_default` and the rights on the bucket.",
    errors.BrokenObject: "Delete or restore the object that the message names, then [repair](../tasks/find-and-repair-gaps.md).",
    errors.WarehouseError: "If it persists after the task's retries: `market-data migrate` creates missing tables. Staged rows are kept.",
    errors.RunTimeout: "Clear the failed tasks to continue.",
}
"""Type -> the next step, for types whose messages do not have it (``to_do``)."""


def types() -> list[type[errors.MarketDataError]]:
    """Return every type, in the order of the module.

    Groups are among them: an error of a provider's own type links to its group.
    """
    return [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.MarketDataError)]


def section(kind: type[errors.MarketDataError]) -> str:
    """Return the section of a type; its heading is the anchor."""
    text = " ".join((inspect.getdoc(kind) or "").partition(":param")[0].split()).replace("``", "`")
    reaction = next((words for base, words in REACTIONS.items() if issubclass(kind, base)), "")
    advice = f"{kind.to_do[0].upper()}{kind.to_do[1:]}." if issubclass(kind, errors.ProviderError) and kind.to_do else ADVICE[kind]
    return f"### {kind.__name__}\n\n{' '.join(filter(None, (text, reaction)))}\n\n**To do**: {advice}\n\n"


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
