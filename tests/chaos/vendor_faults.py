"""Faults of the vendors: each call of a provider goes wrong with a given share, in a kind drawn from the seed."""

import random
import threading
from collections.abc import Sequence
from typing import Any

Kind = tuple[str, dict[str, Any]]

TRANSFER: tuple[Kind, ...] = (
    ("throttled", {"retry_after": 0.3}),
    ("server_error", {"status": 500}),
    ("server_error", {"status": 503}),
    ("error_with_200", {}),
    ("truncated", {}),
    ("truncated", {"clean": True}),
    ("truncated_gzip", {}),
    ("bad_gzip", {}),
    ("empty", {}),
    ("byte_order_mark", {}),
    ("html", {}),
    ("html", {"status": 502}),
    ("reset", {}),
    ("slow", {"seconds": 0.3}),
    ("trickle", {"seconds": 0.0005}),
)
"""Faults of any vendor that serves HTTP."""

REFUSALS: tuple[Kind, ...] = (("unauthorized", {}), ("forbidden", {}))

OWN: dict[str, tuple[Kind, ...]] = {
    "polygon": (
        *(("page_loop", {}), ("other_symbol", {}), ("out_of_range", {}), ("duplicated", {}), ("other_adjustment", {})),
        *(("miscounted", {}), ("no_results", {}), ("without_ticker", {}), ("drifted", {})),
    ),
    "alpaca": (
        *(("page_loop", {}), ("no_rows", {}), ("other_symbol", {}), ("out_of_range", {}), ("duplicated", {})),
        *(("no_bars", {}), ("no_token", {}), ("drifted", {}), ("used_up", {"reset": 0.3})),
    ),
    "fmp": (("other_symbol", {}), ("out_of_range", {}), ("duplicated", {}), ("drifted", {}), ("cut", {})),
    "databento": (
        *(("miscounted", {"by": 1}), ("duplicated", {}), ("no_records", {}), ("other_symbol", {}), ("out_of_range", {})),
        *(("other_schema", {}), ("drifted", {})),
    ),
    "ib": (
        *(("pacing", {}), ("hang", {}), ("slow", {"seconds": 0.3}), ("trickle", {"seconds": 0.0005}), ("reset", {})),
        *(("broken_off", {}), ("garbage", {}), ("short", {}), ("miscounted", {}), ("half", {}), ("page_loop", {})),
        *(("duplicated", {}), ("out_of_range", {}), ("drifted", {})),
    ),
}


LEFT_OUT: dict[str, dict[str, str]] = {
    "http": {
        "not_found": "says that the symbol does not exist, which is believed",
        "substituted": "needs the text of one response",
    },
    "polygon": {},
    "alpaca": {
        "other_hour": "drifts daily bars, as `drifted` does, and makes copies of minutes, as `duplicated` does",
        "throttled": "is drawn as that of all vendors",
    },
    "fmp": {
        "refused": "says that the plan has no such symbol, which is believed",
        "bandwidth": "ends a run as `forbidden` does",
        "bulk_throttled": "pauses the account for 30 seconds, which each campaign would sit out",
        "restated": "is another filing, which is believed",
        "without_symbol": "is a file of a day on which the symbol did not trade, which is believed",
        **dict.fromkeys(("without", "changed", "other_body"), "needs the fields of one response"),
        **dict.fromkeys(("cut_lines", "cut_digits", "without_end"), "needs a bulk file; `cut` cuts all responses"),
    },
    "databento": {"refused": "needs the words of one refusal"},
    "ib": {
        "refused": "needs the words of one refusal; `pacing` is one",
        **dict.fromkeys(("odd", "blank"), "makes rows that hook or gate reject, as a correction with bad prices does"),
    },
}
"""The servers' other faults, each with the reason why no campaign draws it. Tests of the hooks have them."""


def kinds_of(provider: str) -> tuple[Kind, ...]:
    """Return the faults that a provider's server can make and that its hook can tell from a right response."""
    return OWN.get(provider, ()) if provider == "ib" else (*TRANSFER, *REFUSALS, *OWN.get(provider, ()))


class VendorFaults:
    """Decides call by call, in their order: the same for the same seed."""

    def __init__(self) -> None:
        self.struck: dict[str, int] = {}
        self._lock = threading.Lock()
        self._request: Any = None
        self._drawn: int | None = None

    def order(self, api: Any, gateway: Any, provider: str, share: float, seed: str, only: Sequence[str]) -> None:
        """Let ``share`` of the calls go wrong from now on."""
        server = gateway if provider == "ib" else api
        server.faults.clear()
        if not share:
            return
        draw = random.Random(seed)
        kinds = [kind for kind in kinds_of(provider) if not only or kind[0] in only]
        for number, (name, options) in enumerate(kinds):

            def hits(request: Any, number: int = number) -> bool:
                return self._kind_of(request, draw, share, len(kinds)) == number

            target = {} if provider == "ib" else {"vendor": provider}
            server.fault(name, match=self._counted(hits, name), times=None, **target, **options)

    def _counted(self, hits: Any, name: str) -> Any:
        def counted(request: Any) -> bool:
            found: bool = hits(request)
            if found:
                self.struck[name] = self.struck.get(name, 0) + 1
            return found

        return counted

    def _kind_of(self, request: Any, draw: random.Random, share: float, count: int) -> int | None:
        """Return the number of the kind drawn for a request; None: it goes well. The queue shows a request to each fault in turn."""
        with self._lock:
            if request is not self._request:
                self._request = request
                self._drawn = draw.randrange(count) if draw.random() < share else None
            return self._drawn
