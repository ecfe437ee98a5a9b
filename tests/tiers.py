"""Matrices of parameters: the shapes that differ in the first tier, all others in the second."""

from collections.abc import Iterable
from typing import Any

import pytest


def tiers(parameters: Iterable[Any], *first: Any) -> list[Any]:
    """Return ``parameters``, with the mark ``slow`` where they are not among ``first``.

    :raises ValueError: one of ``first`` is not a parameter.
    """
    found = list(parameters)
    if unknown := [one for one in first if one not in found]:
        raise ValueError(f"not among the parameters: {unknown}")
    return [
        one if one in first else pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.slow) for one in found
    ]
