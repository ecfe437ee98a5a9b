"""Find the feed of a DAG and validate a run's params, in a separate process, before the stack starts.

The stack may import the package's `core` and `datasets` only, so the package reads its own files here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.stack.environment import LocalError, Paths

_SCRIPT = """
import json, sys
from datetime import datetime
from market_data.config.feeds import load_feeds
from market_data.config.param_checks import check_params
from market_data.core.calendar import NEW_YORK
from market_data.core.errors import MarketDataError
from market_data.providers.registry import options_of, serving

dag_id, conf = sys.argv[1], json.loads(sys.argv[2])
try:
    feed = next((feed for feed in load_feeds() if feed.dag_id == dag_id), None)
except MarketDataError as error:
    sys.exit(str(error))
if feed is None:
    print("null")
else:
    allowed = {"options": options_of(feed.provider, feed.dataset), "endpoints": serving(feed.provider, feed.dataset)}
    raw = {**feed.params, **feed.options, **conf}
    _, problems = check_params(raw, today=datetime.now(NEW_YORK).date(), **allowed)
    found = {"dag_id": dag_id, "provider": feed.provider, "dataset": feed.dataset, "conn_id": feed.conn_id}
    print(json.dumps({"feed": found, "problems": problems}))
"""


@dataclass(frozen=True, slots=True)
class SandboxFeed:
    """The part of a feed that the stack needs."""

    dag_id: str
    provider: str
    dataset: str
    conn_id: str


def read_feed(dag_id: str, conf: Mapping[str, Any], paths: Paths, environ: Mapping[str, str]) -> SandboxFeed | None:
    """Return the feed of a DAG; None for a DAG that is not a feed's.

    :raises LocalError: ``conf`` is not valid for a run of the feed, or the feeds cannot be read; names every problem.
    """
    path = os.pathsep.join([str(paths.project / "plugins"), *filter(None, [environ.get("PYTHONPATH")])])
    argv = [sys.executable, "-c", _SCRIPT, dag_id, json.dumps(dict(conf))]
    done = subprocess.run(  # noqa: S603  our own program
        argv, env={**environ, "PYTHONPATH": path}, cwd=paths.project, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LocalError(f"the feeds cannot be read: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found is None:
        return None
    if found["problems"]:
        raise LocalError(f"CONF is not valid for {dag_id}: {'; '.join(found['problems'])}")
    return SandboxFeed(**found["feed"])
