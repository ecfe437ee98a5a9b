"""Run campaigns: ``python -m tests.chaos --campaigns 20 --seed 1``. A failure prints its seed and what of it is needed to fail."""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for part in (Path(__file__).parents[2] / "plugins", Path(__file__).parents[2]):
    if str(part) not in sys.path:
        sys.path.insert(0, str(part))

from tests.chaos.campaign import Failed, Result, play  # noqa: E402
from tests.chaos.draw import KINDS, Campaign, draw  # noqa: E402
from tests.chaos.servers import Host  # noqa: E402
from tests.chaos.shrink import shrink  # noqa: E402


def main(words: list[str]) -> int:
    """Run the campaigns that the command line names; 1 if one failed."""
    given = _arguments().parse_args(words)
    logging.disable(logging.WARNING)  # thousands of lines of what is meant to fail
    among = {"feeds": given.feeds, "engines": given.engines, "stores": given.stores}
    if given.stack:
        return _stack(given.seed)
    total, failed = Result(), []
    with Host() as host:
        for seed in range(given.seed, given.seed + given.campaigns):
            campaign = draw(seed, **among).without(_names(given.without))
            started = time.monotonic()
            try:
                total.add(play(campaign, host))
            except Failed as failure:
                failed.append(seed)
                _tell(campaign, failure, host, words, shrinks=not given.without and given.shrink)
            words_of = str(campaign) if given.verbose else str(campaign).splitlines()[0]
            _say(f"seed {seed}{' failed' * (seed in failed)}: {time.monotonic() - started:.1f} s, {words_of}")
    struck = ", ".join(f"{count} {kind}" for kind, count in sorted(total.struck.items()))
    _say(
        f"{given.campaigns} campaigns, {total.steps} steps, {total.tasks} task processes, {total.calls} calls; faults: {struck or 'none'}"
    )
    if failed:
        _say(f"{len(failed)} failed: seeds {', '.join(map(str, failed))}")
    return bool(failed)


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


def _tell(campaign: Campaign, failure: Failed, host: Host, words: list[str], *, shrinks: bool) -> None:
    """Print a failure, and the least of its campaign that fails still."""
    _say(f"\nseed {campaign.seed} failed: {failure}\n{campaign}")
    _say("\n".join(failure.lines[-40:]))
    if shrinks:
        campaign, failure = shrink(campaign, failure, host)
        _say(f"\nthe least that fails: {failure}\n{campaign}")
    rest = " ".join(word for word in _among(words))
    without = f" --without {','.join(campaign.dropped)}" if campaign.dropped else ""
    arguments = f"{rest}{without}".strip()
    _say(f"again: make chaos CAMPAIGNS=1 SEED={campaign.seed}" + (f" ARGS='{arguments}'" if arguments else ""))


def _among(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith(("--feeds", "--engines", "--stores"))]


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
    parser.add_argument("--without", default="", help="steps and faults to leave out, as a failure names them")
    parser.add_argument("--feeds", type=listed, default=[], help=f"among {', '.join(kind.dag_id for kind in KINDS)}")
    parser.add_argument("--engines", type=listed, default=[], help="among duckdb, postgres, oracle")
    parser.add_argument("--stores", type=listed, default=[], help="among file, s3")
    parser.add_argument("--stack", action="store_true", help="start the real stack and kill processes of it")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="do not look for the least that fails")
    parser.add_argument("--verbose", action="store_true", help="print each campaign")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
