"""Plan a run of a feed from the params that a person fills in. Nothing is requested, written or run."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_data.api import Estimate, estimate, options_in
from market_data.config.feed_form import form_of
from market_data.config.trigger_form import GROUPS, PROVIDER, TUNING
from market_data.core.errors import ParamError
from market_data.core.messages import counted, dollars
from market_data.views.current_coverage import coverage_of
from market_data.views.feeds import quota_text
from market_data.views.ledgers import records_of
from market_data.views.without_calls import WithoutCalls

if TYPE_CHECKING:
    from market_data.config.feeds import Feed
    from market_data.core.run import IsRunning
    from market_data.lake.store import Lake
    from market_data.providers.base import ProviderHook

MOST_PRICED = 100
"""Calls of a run whose charge is requested on the page: the provider is called for each of them."""

MOST_CELLS = 5_000_000
"""Symbols x sessions of one plan on the page: about 1.5 s of work. 523 symbols x 10 years are 1.3 million."""

UNKNOWN = "known at the start of the run"
"""In place of a charge that only the provider knows."""

LEFT_OUT = frozenset({"cells"})
"""Params that the page does not have: page Coverage plans lists of gaps."""

OpenHook = Callable[[Mapping[str, Any]], "ProviderHook"]
"""Returns the hook of a feed's provider with these options."""


def sections_of(feed: Feed) -> list[dict[str, Any]]:
    """Return the fields of the page in sections.

    They are those of the trigger form, with the same texts, allowed values and defaults.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*GROUPS, PROVIDER, TUNING)}
    for name, (default, schema) in form_of(feed).items():
        if name not in LEFT_OUT:
            section = schema.get("section") or next((group for group, names in GROUPS.items() if name in names), PROVIDER)
            found[section].append(_field(name, default, schema, section))
    return [{"name": name, "fields": fields} for name, fields in found.items() if fields]


def _field(name: str, default: Any, schema: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Return a field.

    ``kind`` is the JSON type, or ``date``. Only ``choices`` are allowed; ``proposed`` values are some of those allowed.
    """
    types = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    labels = schema.get("values_display", {})
    return {
        "name": name,
        "title": schema["title"].removeprefix(f"{section}: "),
        "help": schema["description"],
        "kind": "date" if schema.get("format") == "date" else next(kind for kind in types if kind != "null"),
        "default": default,
        "choices": [[value, str(labels.get(value, value))] for value in schema.get("enum", ())],
        "proposed": [[value, str(labels.get(value, value))] for value in schema.get("examples", ())],
    }


@dataclass(frozen=True)
class RunPlan:
    """The plan of a run, for people.

    :param params: those that differ from the feed's defaults: the conf of the run.
    :param quota: of the account, in words.
    :param charges: the provider charges for single requests. ``cap``: ``max_cost_usd``; None: there is none.
    :param later: sentences on what is known at the start of the run only.
    """

    estimate: Estimate
    params: Mapping[str, Any]
    quota: str
    charges: bool
    cap: float | None
    later: Sequence[str]

    @property
    def sentence(self) -> str:
        """All of it in one sentence; empty if the run has no session."""
        one = self.estimate
        if not one.sessions:
            return ""
        what = f"{counted(one.symbols, 'symbol')} x {counted(one.sessions, 'session')}, {self._dates}"
        cells = f"{counted(one.covered, 'cell')} covered already, {one.cells:,} to fetch"
        if not one.batches:
            return f"{what}: {cells}."
        cost = f", {dollars(one.cost_usd)}" if one.cost_usd is not None else f"; the charge is {UNKNOWN}" if self.charges else ""
        return f"{what}: {cells}, in {counted(one.calls, 'call')} and {time_text(one.minutes)}{cost}."

    @property
    def rows(self) -> list[list[str]]:
        """The figures as pairs of name and text."""
        one = self.estimate
        objects = "as the response has them" if one.objects is None else f"{one.objects:,} in the lake at most"
        return [
            ["Symbols", f"{one.symbols:,}"],
            ["Sessions", f"{one.sessions:,}" + (f", {self._dates}" if one.sessions else "")],
            ["Cells", f"{one.cells:,} to fetch, {one.covered:,} covered already"],
            ["Calls", f"{one.calls:,} in {counted(one.batches, 'batch')}"],
            ["Time", f"{time_text(one.minutes)} with one pool slot ({self.quota})"],
            ["Charge", self.charge],
            ["Rows", f"{one.rows:,} at most"],
            ["Objects", objects],
        ]

    @property
    def _dates(self) -> str:
        first, last = self.estimate.first_session, self.estimate.last_session
        return f"{first}" if first == last else f"{first} to {last}"

    @property
    def charge(self) -> str:
        """The charge, and the most that the run may cost, in words."""
        cost = self.estimate.cost_usd
        if not self.charges:
            return "none, the provider does not charge for single requests"
        known = dollars(cost) if cost is not None else UNKNOWN if self.estimate.calls else dollars(0)
        if self.cap is None:
            return f"{known}; no cap: max_cost_usd is empty"
        if self.over_cap:
            return f"{known}, over the cap of {dollars(self.cap)} (max_cost_usd): the run would fail before its first request"
        return f"{known}; above {dollars(self.cap)} (max_cost_usd) the run fails before its first request"

    @property
    def over_cap(self) -> bool:
        """True if the run would cost more than it may."""
        return self.cap is not None and self.estimate.cost_usd is not None and self.estimate.cost_usd > self.cap

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "problems": [],
            "sentence": self.sentence,
            "rows": self.rows,
            "notes": [*filter(None, [self.estimate.note]), *self.later],
            "over_cap": self.over_cap,
            "askable": self.askable and self.estimate.calls <= MOST_PRICED,
            "source": self.estimate.provider,
            "totals": self.estimate.totals,
            "conf": dict(self.params),
        }

    def check_priceable(self) -> None:
        """Check that the page may request the charge.

        :raises ParamError: if there is none to request, or it takes more than ``MOST_PRICED`` calls.
        """
        calls = self.estimate.calls
        if not self.askable:
            raise ParamError(["there is no charge to request: the provider charges for none of it, or nothing is to fetch"])
        if calls > MOST_PRICED:
            raise ParamError(
                [f"the charge takes {calls:,} calls to the provider; the page makes {MOST_PRICED} at most: a dry run shows it"]
            )

    @property
    def askable(self) -> bool:
        """True if only the provider knows the charge."""
        return bool(self.charges and self.later and self.estimate.calls)

    def agreed_conf(self, cost_usd: float | None) -> dict[str, Any]:
        """Return the conf of the run.

        Its cap is the charge that the person has agreed to, rounded up to a cent.

        :param cost_usd: in US dollars; None: none was shown, and the cap stays as it is.
        """
        if not self.charges or cost_usd is None:
            return dict(self.params)
        agreed = math.ceil(cost_usd * 100) / 100
        return {**self.params, "max_cost_usd": agreed if self.cap is None else min(self.cap, agreed)}

    def check_agreed(self, calls: int, cost_usd: float | None) -> None:
        """Check that the run takes no more than a person has seen and agreed to.

        :raises ParamError: if it does.
        """
        one = self.estimate
        if one.calls <= calls and (one.cost_usd or 0) <= (cost_usd or 0):
            return
        now, agreed = (
            f"{counted(n, 'call')} and {dollars(cost or 0)}" for n, cost in ((one.calls, one.cost_usd), (calls, cost_usd))
        )
        raise ParamError([f"the run takes {now} now; agreed: {agreed}: plan it again"])


def plan_of(
    feed: Feed,
    params: Mapping[str, Any],
    lake: Lake,
    hook: OpenHook,
    now: datetime,
    is_running: IsRunning = lambda _: None,
    open_s3: Callable[[str], bytes] | None = None,
    *,
    ask_provider: bool = False,
) -> RunPlan:
    """Plan a run of a feed as ``market-data plan`` does.

    Without any call to the provider, unless ``ask_provider``: then what only the provider knows, such as the charge, is known too. Such
    calls are free.

    :param params: those that differ from the feed's defaults, of JSON types.
    :param is_running: see `market_data.api.estimate`; ``open_s3`` likewise.
    :raises ParamError: naming every param that is wrong; or the work does not fit into one run, or exceeds ``MOST_CELLS``.
    :raises ConfigError: the connection is wrong.
    :raises LakeError: the store fails.
    :raises ProviderError: with ``ask_provider``, if the provider does not respond as it should.
    """
    raw = {**feed.params, **params}
    opened = hook({**feed.options, **options_in(feed, raw)})
    opened.validate_config()
    planning = opened if ask_provider else WithoutCalls(opened)
    found = estimate(
        feed, raw, planning, lake,
        coverage=lambda source: coverage_of(records_of(lake, feed.dataset, source)),
        is_running=is_running, open_s3=open_s3, now=now, most_cells=MOST_CELLS,
    )  # fmt: skip
    later = planning.later if isinstance(planning, WithoutCalls) else ()
    cap = planning.option("max_cost_usd") if "max_cost_usd" in planning.known_options else None
    return RunPlan(found, params, quota_text(planning.quota), planning.spec.charges, cap, later)


def by_field(problems: Sequence[str], names: Collection[str]) -> list[dict[str, str]]:
    """Return each problem with the field that it begins with; an empty name for one of no single field."""
    words = [(re.match(r"[a-z_0-9]*", text), text) for text in problems]
    return [{"field": word[0] if word and word[0] in names else "", "text": text} for word, text in words]


def time_text(minutes: float) -> str:
    """Return minutes as a person says them."""
    whole = round(minutes)
    if whole < 1:
        return "less than a minute"
    hours, rest = divmod(whole, 60)
    if hours >= 48:
        return f"about {counted(round(hours / 24), 'day')}"
    return f"about {hours} h {rest} min" if hours else f"about {counted(whole, 'minute')}"
