"""A lake in memory: a thousand of them are filled, folded and read in minutes, and any state of one can be gone back to."""

import hashlib
import random
from datetime import UTC, datetime
from pathlib import Path

from market_data.lake.store import Lake, Listed, Stored

WRITTEN = datetime(2024, 11, 1, tzinfo=UTC)


class MemoryLake(Lake):
    """Objects in a dictionary, with the conditions of a PUT and a DELETE.

    :ivar states: the objects before the first write, and after each one.
    """

    def __init__(self, objects=None, seed=0):
        super().__init__("file:///in-memory", store=None, root=Path("/in-memory"))
        self.objects = dict(objects or {})
        self.states = [dict(self.objects)]
        self.shuffled = random.Random(seed)

    def get(self, key):
        body = self.objects.get(key)
        return None if body is None else Stored(body, tag(body))

    def _version(self, key):
        return None if (found := self.get(key)) is None else found.etag

    def put_new(self, key, body):
        if key in self.objects:
            return False
        self._write({**self.objects, key: bytes(body)})
        return True

    def put_if(self, key, body, etag):
        if self._version(key) != etag:
            return False
        self._write({**self.objects, key: bytes(body)})
        return True

    def delete(self, key):
        self._write({name: body for name, body in self.objects.items() if name != key})

    def delete_if(self, key, etag):
        if (found := self._version(key)) is not None:
            if found != etag:
                return False
            self.delete(key)
        return True

    def _write(self, objects):
        self.objects = objects
        self.states.append(objects)

    def list(self, prefix):
        return sorted((key, len(body)) for key, body in self.objects.items() if key.startswith(f"{prefix}/") or not prefix)

    def walk(self, prefix, at_a_time=10_000):
        yield self.list(prefix)

    def listed(self, prefix):
        return (Listed(key, size, WRITTEN, self._version(key)) for key, size in self.list(prefix))

    def folders(self, prefix):
        found = (key.removeprefix(f"{prefix}/").split("/") for key, _ in self.list(prefix))
        return sorted({f"{prefix}/{parts[0]}" for parts in found if len(parts) > 1})

    def each(self, operation, items, *, concurrency=1):
        """Run the operations in any order, as threads do; yield their results in order."""
        items = list(items)
        order = list(range(len(items)))
        self.shuffled.shuffle(order)
        results = {place: operation(items[place]) for place in order}
        return (results[place] for place in range(len(items)))


class Moving(MemoryLake):
    """A lake that another process changes while it is read: each listing and each GET may find the next state.

    :param steps: states that are passed before a listing or GET, in turn; the last state stays.
    """

    def __init__(self, states, steps, seed=0):
        super().__init__(states[0], seed)
        self.ahead, self.steps, self.place, self.seen = states, steps, 0, 0

    def _move(self):
        self.place = min(self.place + self.steps[self.seen % len(self.steps)], len(self.ahead) - 1)
        self.seen += 1
        self.objects = self.ahead[self.place]

    def get(self, key):
        self._move()
        return super().get(key)

    def list(self, prefix):
        self._move()
        return super().list(prefix)


def tag(body):
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
