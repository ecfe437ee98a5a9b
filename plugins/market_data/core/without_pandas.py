"""Arrow without pandas."""

from __future__ import annotations

import sys


def leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas in this process, which takes 50 MB.

    It would, only to see whether a value is one of pandas' own. ``to_pandas`` imports it all the same.
    """
    import pyarrow as pa

    class Refusal:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "pandas":
                raise ImportError(name)

    if "pandas" not in sys.modules:
        sys.meta_path.insert(0, Refusal)
        try:
            pa.array([None])  # it looks once
        finally:
            sys.meta_path.remove(Refusal)
