"""Mutated references: attention with one known mistake, so that a wrong output can be recognised.

What a mistake predicts for a case is compared with what the kernel gave: see `predictions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..cases import Case
from .masks import dims, masks, scales
from .memory import indexes, layouts
from .setup import Mistake, Setup, right, tile_sizes
from .softmax import outputs, softmaxes
from .tiles import key_tiles
from .variants import variants

__all__ = ["Mistake", "Setup", "mistakes", "right"]


def mistakes(case: Case) -> Iterator[Mistake]:
    """Every mistake that could show in this case; some depend on its shape and its tiles."""
    yield from scales(case)
    yield from dims(case)
    yield from masks(case)
    if not case.half_kv:  # in whose memory no floats lie
        yield from layouts(case)
    yield from indexes(case)
    yield from variants(case)
    yield from softmaxes()
    for bc, implied in tile_sizes(case):
        yield from key_tiles(bc, implied)
    yield from outputs(case)
