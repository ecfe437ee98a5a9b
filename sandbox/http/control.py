"""The control routes, by which tests and demonstrations steer a running server.

Calls to them are not logged and not limited.

::

    GET    /_control/health
    GET    /_control/calls                  DELETE forgets them
    GET    /_control/faults                 DELETE takes all away
    POST   /_control/faults                 {"kind": "throttled", "match": "/grouped/", "times": 2, "retry_after": 1}
    GET    /_control/quota
    POST   /_control/quota                  {"limits": [{"calls": 5, "seconds": 60}]}
    POST   /_control/prices                 {"session": "2012-01-03", "symbol": "AAPL", "multiply": 10}
                                            {"session": "2012-01-03", "symbol": "AAPL", "replace": {"close": 60.0}}
    DELETE /_control/prices                 takes all changes back
    POST   /_control/missing                {"session": "2012-01-03", "symbols": ["AAPL"]} or {..., "fraction": 0.4}
    DELETE /_control/missing                brings all symbols back

``match`` is a pattern searched in path, query and form. A change without ``symbol`` (or with null) is for all symbols. A fault
without ``times`` happens once; with null, without end. A fault with ``vendor`` is for that vendor, otherwise for the one at the
root. Each vendor's account has a quota of its own. An invalid body gets status 400 and an error that names the invalid value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from market_data.core.capabilities import Window

if TYPE_CHECKING:
    from sandbox.http.server import SampleApi

PREFIX = "/_control/"
Json = dict[str, Any]


def respond(api: SampleApi, method: str, target: str, body: bytes) -> tuple[int, Json]:
    """Return status and JSON body of the response to a control call."""
    path = urlsplit(target).path
    routine = ROUTES.get((method, path.removeprefix(PREFIX)))
    if routine is None:
        known = ", ".join(f"{verb} {PREFIX}{name}" for verb, name in ROUTES)
        return 404, {"error": f"no control route {method} {path}; there are: {known}"}
    try:
        return 200, routine(api, dict(json.loads(body or b"{}")))
    except KeyError as missing:
        return 400, {"error": f"the body lacks {missing}"}
    except (TypeError, ValueError) as wrong:
        return 400, {"error": str(wrong)}


def _health(_api: SampleApi, _body: Json) -> Json:
    return {"status": "OK"}


def _calls(api: SampleApi, _body: Json) -> Json:
    return {"calls": [asdict(call) for call in api.calls]}


def _forget_calls(api: SampleApi, _body: Json) -> Json:
    api.log.clear()
    return _calls(api, {})


def _faults(api: SampleApi, _body: Json) -> Json:
    return {"faults": api.faults.to_json()}


def _add_fault(api: SampleApi, body: Json) -> Json:
    api.fault(body.pop("kind"), match=body.pop("match", None), times=body.pop("times", 1), **body)
    return _faults(api, {})


def _clear_faults(api: SampleApi, _body: Json) -> Json:
    api.faults.clear()
    return _faults(api, {})


def _quota(api: SampleApi, _body: Json) -> Json:
    return {"limits": [asdict(window) for window in api.limits]}


def _set_quota(api: SampleApi, body: Json) -> Json:
    api.limits = tuple(Window(int(window["calls"]), float(window["seconds"])) for window in body["limits"])
    return _quota(api, {})


def _alter(api: SampleApi, body: Json) -> Json:
    session, symbol, values = date.fromisoformat(body.pop("session")), body.pop("symbol", None), body.pop("replace", {})
    api.alter(symbol, session, **body, **values)
    return {"status": "OK"}


def _restore(api: SampleApi, _body: Json) -> Json:
    api.edits.clear_changes()
    return {"status": "OK"}


def _hide(api: SampleApi, body: Json) -> Json:
    api.hide(date.fromisoformat(body.pop("session")), body.pop("symbols", None), **body)
    return {"status": "OK"}


def _show(api: SampleApi, _body: Json) -> Json:
    api.edits.clear_hidden()
    return {"status": "OK"}


ROUTES: dict[tuple[str, str], Callable[[SampleApi, Json], Json]] = {
    ("GET", "health"): _health,
    ("GET", "calls"): _calls,
    ("DELETE", "calls"): _forget_calls,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_fault,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "quota"): _quota,
    ("POST", "quota"): _set_quota,
    ("POST", "prices"): _alter,
    ("DELETE", "prices"): _restore,
    ("POST", "missing"): _hide,
    ("DELETE", "missing"): _show,
}
