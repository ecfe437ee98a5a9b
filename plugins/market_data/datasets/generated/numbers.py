"""Hash numbers from a symbol's key, a counter and a stream.

The hash is splitmix64, evaluated at a counter instead of successively.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
Bools = NDArray[np.bool_]

_ROOM = 1 << 40  # counters per stream


def uniform(keys: Keys, counters: Ints, stream: int) -> Floats:
    """Return numbers in [0, 1), one per pair of key and counter.

    :param stream: 0 to 15 for daily bars, 16 to 31 for minutes and trades, 32 to 47 for actions, from 48 on for statements.
    """
    bits = keys + (counters + stream * _ROOM).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    numbers: Floats = (bits >> np.uint64(11)) / 2.0**53
    return numbers


def normal(keys: Keys, counters: Ints, stream: int) -> Floats:
    """Return approximately standard normal numbers, within -3..3."""
    first, second, third = (uniform(keys, counters * 3 + draw, stream) for draw in range(3))
    return 2 * (first + second + third) - 3


def key(seed: int, symbol: str) -> int:
    """Return the key that a symbol's numbers are hashed from."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{symbol}".encode(), digest_size=8).digest())
