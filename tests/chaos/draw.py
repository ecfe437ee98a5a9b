"""What a seed stands for: a feed, its stores, and steps with their faults."""

import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

from market_data.core import calendar
from market_data.core.run import GRAINS
from market_data.datasets.registry import grains_of
from tests.chaos.points import Fault
from tests.chaos.store_faults import S3_FAULTS

RECENT, OLD = date(2026, 10, 26), date(2013, 1, 2)
"""First sessions of recent data, of which some may still change, and of old data."""


@dataclass(frozen=True)
class Kind:
    """A feed that campaigns use.

    :param sessions: how many the runs are over, at most.
    :param endpoints: those of which the values differ: FMP's bulk files have adjusted closes, the histories of symbols have not.
    """

    dag_id: str
    symbols: tuple[str, ...]
    sessions: int
    first: date = RECENT
    grains: tuple[str, ...] = GRAINS
    endpoints: tuple[str, ...] = ("auto",)


STOCKS = ("AAPL", "BRK.B", "IBM", "KO", "MSFT", "SPY")
KINDS = (
    Kind("polygon_ohlcv_1d", STOCKS, 9),
    Kind("alpaca_ohlcv_1d", STOCKS, 9),
    Kind("fmp_ohlcv_1d", STOCKS, 9, endpoints=("history", "bulk")),
    Kind("databento_ohlcv_1d", STOCKS, 9),
    Kind("ib_ohlcv_1d", ("VIX", "AAPL", "IBM", "KO"), 9),
    Kind("polygon_ohlcv_1m", ("AAPL", "IBM"), 3),
    Kind("alpaca_ohlcv_1m", ("AAPL", "IBM"), 3),
    Kind("databento_ohlcv_1m", ("AAPL", "IBM"), 2),
    Kind("ib_ohlcv_5m", ("AAPL", "IBM"), 3),
    Kind("databento_trades", ("AAPL", "KO"), 2, OLD),
    Kind("databento_tbbo", ("AAPL", "KO"), 1, OLD),
    Kind("fmp_fundamentals", ("AAPL", "KO", "IBM"), 25, date(2013, 1, 15), grains_of("fundamentals")),
)

WORK = ("run", "run", "night", "night", "force", "pair", "clear", "clear_mid")
VENDOR = ("correct", "correct", "hide", "bad", "strange")
CLOCK = ("clock",)
UPKEEP = ("compact", "fold", "audit", "reset", "rebuild")
JUMPS = (-7200, -1800, -300, -30, -4, -2, 4, 900, 7200)
"""Seconds by which the clock of all hosts is set, back or forward, between two runs."""
LIMITS = ((8, 0.5), (2, 0.6))
"""Calls in so many seconds that the account has. With few, one forgotten call is one too many."""
LOAD_CALLS = 24
"""A load makes so many calls of the warehouse, about: each of them is drawn as often."""
PLACES = {
    "plan": ("lake",),
    "fetch": ("lake", "lake", "http", "sent"),
    "check": ("lake", "warehouse"),
    "load": ("lake", "warehouse", "warehouse"),
    "publish": ("lake",),
    "upkeep": ("lake", "warehouse"),
}


@dataclass(frozen=True)
class Step:
    """A step of a campaign.

    :param kind: in ``WORK``, ``VENDOR``, ``UPKEEP`` or ``CLOCK``.
    :param start: index of its first session; ``count``: sessions.
    :param symbol: index of the symbol that a change of the vendor is about.
    :param vendor: share of the provider's calls that go wrong; ``store``: of the object store's requests.
    :param tasks: number of tasks after which a run is cleared.
    :param seconds: by which the clocks are set.
    :param grain: ``file_grain`` of the runs from this step on; empty: as before.
    :param second: the run is one of a second feed with the same lake, warehouse and account.
    :param universe: number of symbols that the run's universe has; 0: all.
    """

    kind: str
    start: int = 0
    count: int = 1
    symbol: int = 0
    faults: tuple[Fault, ...] = ()
    vendor: float = 0.0
    store: float = 0.0
    tasks: int = 0
    seconds: int = 0
    grain: str = ""
    second: bool = False
    universe: int = 0

    def __str__(self) -> str:
        if self.kind in CLOCK:
            return f"clocks are set by {self.seconds} s"
        words = [self.kind, f"sessions {self.start}-{self.start + self.count - 1}"]
        words += [f"file_grain {self.grain}"] if self.grain else []
        words += ["second feed"] if self.second else []
        words += [f"{self.universe} symbols"] if self.universe else []
        words += [f"{self.vendor:.0%} of the vendor's calls fail"] if self.vendor else []
        words += [f"{self.store:.0%} of the store's requests fail"] if self.store else []
        return "; ".join([*words, *map(str, self.faults)])


@dataclass(frozen=True)
class Campaign:
    """A feed, its stores and its steps.

    :param limiter: where the account's limit is kept. ``limit``: calls in so many seconds.
    :param mutant: a defect that each task has; empty: none.
    """

    seed: int
    kind: Kind
    store: str
    engine: str
    grain: str
    symbols: tuple[str, ...]
    sessions: tuple[date, ...]
    steps: tuple[Step, ...]
    batch_size: int = 2
    serial: bool = True
    store_kinds: tuple[str, ...] = S3_FAULTS
    recent: bool = False
    limiter: str = "file"
    limit: tuple[int, float] = (8, 0.5)
    mutant: str = ""
    dropped: tuple[str, ...] = field(default=())

    @property
    def start(self) -> datetime:
        """The moment at which it begins: two weeks after the last session, or in its evening, when data may still change."""
        if self.recent:
            return calendar.at(self.sessions[-1], time(21)) + timedelta(seconds=3, microseconds=123457)
        return datetime(2026, 11, 20, 12, 0, 1, 123457, tzinfo=UTC)

    def without(self, dropped: Collection[str]) -> "Campaign":
        """Return the campaign without some steps (``3``) and faults (``3.0``; ``3.vendor``, ``3.store``)."""
        steps = []
        for number, step in enumerate(self.steps):
            if str(number) in dropped:
                continue
            faults = tuple(fault for place, fault in enumerate(step.faults) if f"{number}.{place}" not in dropped)
            vendor, store = (0.0 if f"{number}.{name}" in dropped else getattr(step, name) for name in ("vendor", "store"))
            steps.append(replace(step, faults=faults, vendor=vendor, store=store))
        return replace(self, steps=tuple(steps), dropped=tuple(sorted(dropped)))

    @property
    def parts(self) -> list[str]:
        """The names of the steps and faults, as ``without`` takes them: steps first, last step first."""
        steps = [str(number) for number in reversed(range(len(self.steps)))]
        faults = [f"{number}.{place}" for number, step in enumerate(self.steps) for place in range(len(step.faults))]
        shares = [f"{n}.{name}" for n, step in enumerate(self.steps) for name in ("vendor", "store") if getattr(step, name)]
        return [*steps, *faults, *shares]

    def __str__(self) -> str:
        head = f"{self.kind.dag_id}, {self.store} lake, {self.engine}, file_grain {self.grain}, {len(self.symbols)} symbols"
        head += f", limits in {self.limiter}" * (self.limiter != "file")
        head += f", {self.limit[0]} calls in {self.limit[1]} s" + ", recent" * self.recent
        return "\n".join([head, *(f"  {number}: {step}" for number, step in enumerate(self.steps))])


def draw(seed: int, *, feeds: Collection[str] = (), engines: Collection[str] = (), stores: Collection[str] = ()) -> Campaign:
    """Return the campaign of a seed.

    :param feeds: draw among these DAG ids only; ``engines``, ``stores`` likewise. Empty: among all.
    """
    rng = random.Random(seed)
    kind = rng.choice([kind for kind in KINDS if not feeds or kind.dag_id in feeds])
    store = rng.choice([name for name in ("file", "s3") if not stores or name in stores])
    engine = rng.choice([name for name in ("duckdb", "duckdb", "postgres", "oracle") if not engines or name in engines])
    sessions = calendar.sessions(kind.first, kind.first + timedelta(days=60))[: kind.sessions]
    symbols = tuple(rng.sample(kind.symbols, rng.randint(2, len(kind.symbols))))
    steps = tuple(_step(rng, len(sessions), len(symbols), store, engine) for _ in range(rng.randint(3, 7)))
    if rng.random() < 0.6:  # most happens to a feed that has data
        steps = (Step("run", 0, len(sessions)), *steps)
    desk = random.Random(f"{seed}/desk")  # leaves what else the seed stands for as it is
    steps = tuple(_changed(desk, step, kind, len(symbols)) for step in steps)
    return Campaign(
        seed,
        kind,
        store,
        engine,
        rng.choice(kind.grains),
        symbols,
        sessions,
        steps,
        rng.choice((1, 2, 25)),
        rng.random() < 0.8,
        tuple(rng.sample(S3_FAULTS, rng.randint(1, len(S3_FAULTS)))),
        kind.first == RECENT and rng.random() < 0.4,
        rng.choice(("file", "postgres", "redis") if engine == "postgres" else ("file", "file", "redis")),
        rng.choice(LIMITS),
    )


def _step(rng: random.Random, sessions: int, symbols: int, store: str, engine: str) -> Step:
    kind = rng.choice(rng.choice((*(WORK,) * 7, VENDOR, VENDOR, UPKEEP, UPKEEP, CLOCK)))
    start = rng.randrange(sessions)
    count = rng.randint(1, min(4, sessions - start))
    place = {"start": start, "count": count, "symbol": rng.randrange(symbols)}
    if kind in CLOCK:
        return Step(kind, seconds=rng.choice(JUMPS))
    if kind in VENDOR:
        return Step(kind, **place)
    faults = tuple(_fault(rng, kind, engine) for _ in range(rng.choice((0, 1, 1, 2, 3))))
    vendor = 0.2 if kind in WORK and rng.random() < 0.4 else 0.0
    share = rng.choice((0.03, 0.1)) if store == "s3" and rng.random() < 0.4 else 0.0
    return Step(kind, **place, faults=faults, vendor=vendor, store=share, tasks=rng.randint(1, 4))


def _changed(rng: random.Random, step: Step, kind: Kind, symbols: int) -> Step:
    """Return a step with what a desk changes: the grain of the files, a second feed, the universe."""
    if step.kind not in WORK:
        return step
    grain = rng.choice(kind.grains) if rng.random() < 0.2 else ""
    return replace(step, grain=grain, second=rng.random() < 0.3, universe=rng.randint(1, symbols) if rng.random() < 0.3 else 0)


def _fault(rng: random.Random, step: str, engine: str) -> Fault:
    task = "upkeep" if step in UPKEEP else rng.choice(("plan", "fetch", "fetch", "check", "load", "load", "publish"))
    kinds = ["kill", "kill", "kill"]
    kinds += ["stop"] if step in ("run", "force", "pair", "night") else []
    kinds += ["cut", "held"] if task in ("check", "load", "upkeep") else []
    kinds += ["full"] if task in ("fetch", "load") else []
    kinds += ["skew"] if task == "fetch" else []
    kind, place = rng.choice(kinds), rng.choice(PLACES[task])
    if kind == "full":
        return Fault(kind, task, number=rng.choice((1, 4, 16, 64, 600, 4000)))
    if kind == "skew":
        return Fault(kind, task, number=rng.choice((-3600, -7, -4, 3, 6, 900)))
    if kind in ("cut", "held"):
        place = "warehouse"
    number = rng.randint(1, LOAD_CALLS) if (task, place) == ("load", "warehouse") else int(2 ** rng.uniform(0, 5.5))
    return Fault(kind, task, place, number, rng.random() < 0.5)
