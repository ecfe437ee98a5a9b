"""Run campaigns: ``python -m tests.chaos --campaigns 20 --seed 1``. A failure prints its seed and what of it is needed to fail."""

import argparse
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.util import Finalize
from pathlib import Path

for part in (Path(__file__).parents[2] / "plugins", Path(__file__).parents[2]):
    if str(part) not in sys.path:
        sys.path.insert(0, str(part))
logging.disable(logging.WARNING)  # before any import: thousands of lines, of libraries and of what is meant to fail

from tests.chaos.campaign import Failed, Result, play  # noqa: E402
from tests.chaos.draw import KINDS, Campaign, draw  # noqa: E402
from tests.chaos.mutants import MUTANTS, campaign_of  # noqa: E402
from tests.chaos.preload import preload  # noqa: E402
from tests.chaos.servers import Host  # noqa: E402
from tests.chaos.shrink import shrink  # noqa: E402


@dataclass
class Told:
    """What is printed of a campaign.

    :param failure: one line; empty if all invariants hold. ``again``: the command that repeats it.
    """

    seed: int
    lines: list[str] = field(default_factory=list)
    result: Result = field(default_factory=Result)
    failure: str = ""
    again: str = ""


def main(words: list[str]) -> int:
    """Run the campaigns that the command line names; 1 if one failed."""
    given = _arguments().parse_args(words)
    if given.stack:
        return _stack(given.seed)
    preload()
    if given.mutants:
        return _mutants(list(MUTANTS) if given.mutants == ["all"] else given.mutants)
    total, failed, since = Result(), [], time.monotonic()
    for told in _all_told(given):
        _say("\n".join(told.lines))
        total.add(told.result)
        failed += [told] if told.failure else []
    _say(f"{given.campaigns} campaigns in {time.monotonic() - since:.0f} s, {_counted(total)}")
    for told in sorted(failed, key=lambda told: told.seed):
        _say(f"FAILED seed {told.seed}: {told.failure}\n  again: {told.again}")
    return bool(failed)


def _all_told(given: argparse.Namespace) -> Iterator[Told]:
    """Run the campaigns, ``given.jobs`` at a time, each of these with servers of its own."""
    seeds = [(seed, given) for seed in range(given.seed, given.seed + given.campaigns)]
    if given.jobs == 1:
        with Host() as host:
            yield from (_told(seed, given, host) for seed, given in seeds)
        return
    with multiprocessing.get_context("fork").Pool(given.jobs, _begin_job) as pool:
        yield from pool.imap_unordered(_job, seeds)
        pool.close()
        pool.join()


_HOSTS: list[Host] = []


def _begin_job() -> None:
    host = Host()
    host.__enter__()
    _HOSTS[:] = [host]
    Finalize(host, host.__exit__, exitpriority=10)


def _job(work: tuple[int, argparse.Namespace]) -> Told:
    return _told(*work, _HOSTS[0])


def _told(seed: int, given: argparse.Namespace, host: Host) -> Told:
    """Run the campaign of a seed."""
    campaign = draw(seed, feeds=given.feeds, engines=given.engines, stores=given.stores).without(_names(given.without))
    told, started, failure = Told(seed), time.monotonic(), None
    try:
        told.result = play(campaign, host)
    except Failed as caught:
        failure = caught
    words = str(campaign) if given.verbose else str(campaign).splitlines()[0]
    told.lines = [f"seed {seed}{' failed' * bool(failure)}: {time.monotonic() - started:.1f} s, {words}"]
    told.lines += [f"  {_counted(told.result)}"] if given.verbose else []
    if failure is not None:
        _explain(told, campaign, failure, host, given)
    return told


def _explain(told: Told, campaign: Campaign, failure: Failed, host: Host, given: argparse.Namespace) -> None:
    """Add what happened, and the least of the campaign that fails still. The failure itself comes last."""
    told.lines += ["", f"{campaign}", *failure.lines[-40:], f"seed {told.seed} failed: {failure}"]
    if given.shrink and not given.without:
        campaign, failure = shrink(campaign, failure, host)
        told.lines += ["", "the least that fails:", f"{campaign}", *failure.lines[-40:], f"{failure}"]
    among = [f"--{name} {','.join(getattr(given, name))}" for name in ("feeds", "engines", "stores") if getattr(given, name)]
    among += [f"--without {','.join(campaign.dropped)}"] if campaign.dropped else []
    told.failure = str(failure).strip().splitlines()[-1]
    told.again = f"make chaos CAMPAIGNS=1 SEED={told.seed}" + (f" ARGS='{' '.join(among)}'" if among else "")
    told.lines += [f"again: {told.again}", ""]


def _counted(result: Result) -> str:
    struck = ", ".join(f"{count} {kind}" for kind, count in sorted(result.struck.items()))
    return f"{result.steps} steps, {result.tasks} task processes, {result.calls} calls; faults: {struck or 'none'}"


def _mutants(names: Iterable[str]) -> int:
    """Break the code in one way after the other; 1 if a campaign holds nevertheless."""
    held = 0
    with Host() as host:
        for name in names:
            try:
                play(campaign_of(name), host)
            except Failed as failure:
                _say(f"{name}: found: {str(failure).strip().splitlines()[-1]}")
            else:
                held += 1
                _say(f"{name}: NOT found")
    return bool(held)


def _stack(seed: int) -> int:
    """Start a stack and kill processes of it; 1 if something is wrong in the end."""
    from tests.chaos.stack import stack_campaign
    from tests.e2e.conftest import DAG, running

    with tempfile.TemporaryDirectory(prefix="chaos-stack-") as folder, running(Path(folder) / "stack") as world:
        world.airflow.unpause(DAG)
        try:
            done = stack_campaign(world, seed)
        except AssertionError as error:
            _say(f"seed {seed} failed: {error}\nagain: make chaos STACK=1 SEED={seed}")
            return 1
    _say(f"seed {seed}: killed {', '.join(done.targets)}; {done.cleared} runs were cleared; every bar is there once")
    return 0


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    listed: Callable[[str], list[str]] = _names
    parser.add_argument("--campaigns", type=int, default=10, help="how many, with seeds one after the other")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first one")
    parser.add_argument("--jobs", type=int, default=1, help="campaigns at a time")
    parser.add_argument("--without", default="", help="steps and faults to leave out, as a failure names them")
    parser.add_argument("--feeds", type=listed, default=[], help=f"among {', '.join(kind.dag_id for kind in KINDS)}")
    parser.add_argument("--engines", type=listed, default=[], help="among duckdb, postgres, oracle")
    parser.add_argument("--stores", type=listed, default=[], help="among file, s3")
    parser.add_argument("--mutants", type=listed, default=[], help=f"defects to be found: all, {', '.join(MUTANTS)}")
    parser.add_argument("--stack", action="store_true", help="start the real stack and kill processes of it")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="do not look for the least that fails")
    parser.add_argument("--verbose", action="store_true", help="print each campaign and what struck")
    return parser


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # at the interpreter's own end, DuckDB writes pages about its types below the failures
