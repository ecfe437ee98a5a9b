"""The limits of accounts in a Redis server: for the processes of many hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from market_data.http.limiter import LimiterError, Reading

PREFIX = "market_data_limits:"
KEPT = 400 * 86_400
"""Seconds after which the server may drop an account that nobody uses; more than the longest window."""
READ = "return {redis.call('GET', KEYS[1]) or '', redis.call('TIME')}"
SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class RedisStore:
    """One key of an account. The time is the server's, so the hosts' clocks do not matter.

    :param settings: of ``redis.Redis``. Its client opens lost connections again, and has others after a fork.
    :param name: of the connection, for messages.
    """

    def __init__(self, settings: Mapping[str, Any], account: str, name: str) -> None:
        self._settings, self._key, self._name = settings, PREFIX + account, name
        self._client: Any = None

    def read(self) -> Reading:
        """Return text and time."""
        text, (seconds, micros) = self._run(READ)
        now = int(seconds) + int(micros) / 1e6
        return Reading(text.decode(), now, now)

    def swap(self, seen: Reading, text: str) -> bool:
        """Replace the text if it is still that of ``seen``."""
        return bool(self._run(SWAP, seen.text, text, str(KEPT)))

    def _run(self, script: str, *values: str) -> Any:
        import redis

        if self._client is None:
            # Once more, at once: the connection of before may have been cut.
            self._client = redis.Redis(**{"retry": redis.retry.Retry(redis.backoff.NoBackoff(), 1), **self._settings})
        try:
            return self._client.eval(script, 1, self._key, *values)
        except redis.RedisError as error:
            said = next(iter(str(error).splitlines()), "")
            raise LimiterError(f"the limiter cannot use connection {self._name!r}: {type(error).__name__}: {said}") from None
