"""The limits of accounts in a Redis server: for the processes of many hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


class RedisServer:
    """One client of the server, for the threads of a process and the stores of all their accounts.

    It opens lost connections again, and has others after a fork.

    :param settings: of ``redis.Redis``.
    :param name: of the connection, for messages.
    """

    def __init__(self, settings: Mapping[str, Any], name: str) -> None:
        self._settings, self._name = settings, name
        self._client: Any = None

    def store(self, account: str) -> RedisStore:
        """Return the store of an account."""
        return RedisStore(self, PREFIX + account)

    def close(self) -> None:
        """Close the connections. The next script opens others."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def run(self, script: str, *values: str) -> Any:
        """Return the result of a script; the first of the values is its key.

        :raises LimiterError: if the server cannot be used.
        """
        import redis

        if self._client is None:
            # Once more, at once: the connection of before may have been cut.
            self._client = redis.Redis(**{"retry": redis.retry.Retry(redis.backoff.NoBackoff(), 1), **self._settings})
        try:
            return self._client.eval(script, 1, *values)
        except redis.RedisError as error:
            said = next(iter(str(error).splitlines()), "")
            raise LimiterError(f"the limiter cannot use connection {self._name!r}: {type(error).__name__}: {said}") from None


@dataclass(frozen=True)
class RedisStore:
    """One key of an account. The time is the server's, so the hosts' clocks do not matter."""

    server: RedisServer
    key: str

    def read(self) -> Reading:
        """Return text and time."""
        text, (seconds, micros) = self.server.run(READ, self.key)
        now = int(seconds) + int(micros) / 1e6
        return Reading(text.decode(), now, now)

    def swap(self, seen: Reading, text: str) -> bool:
        """Replace the text if it is still that of ``seen``."""
        return bool(self.server.run(SWAP, self.key, seen.text, text, str(KEPT)))
