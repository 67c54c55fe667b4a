"""A head's attention matrix beside the right scores: what readers of scores and weights look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .probe import Array, Probe

LEAST = 1e-35  # of a weight: smaller ones may be subnormal numbers
FITS = 2e-3  # of log P: rounding of scores of some tens, and no mistake worth a name
LEAST_KEYS = 24  # of a row that is fitted by itself
Said = tuple[str, str]  # a cause, and a sentence


@dataclass(frozen=True)
class Head:
    """Of batch b, head h: its weights p (n_q, n_kv) and the right scores s.

    usable: where log P can be taken. rest: log P less s, less the mean of its row.
    """

    probe: Probe
    b: int
    h: int
    p: Array
    s: Array
    usable: NDArray[np.bool_]
    rest: Array

    @staticmethod
    def of(probe: Probe, b: int, h: int, p: Array | None = None) -> Head:
        """Of these weights, or of those that the case's own inputs give."""
        p, s = probe.own[b, h] if p is None else p, probe.scores[b, h]
        usable = probe.mask & (p > LEAST)
        rest = centred(np.log(np.maximum(p, LEAST)) - s, usable)
        return Head(probe, b, h, p, s, usable, rest)

    def follows(self, scores: Array) -> bool:
        """Whether log P is these scores, but for a constant of each row."""
        off = centred(self.rest + self.s - scores, self.usable)[self.usable]
        return bool(np.abs(off).max(initial=0) < FITS)


def top(s: Array, mask: NDArray[np.bool_]) -> Array:
    top: Array = np.where(mask, s, -np.inf).max(-1, keepdims=True)
    return np.where(np.isfinite(top), top, 0)


def centred(x: Array, usable: NDArray[np.bool_]) -> Array:
    """Less the mean of its row's usable values; 0 elsewhere."""
    n = np.maximum(usable.sum(-1, keepdims=True), 1)
    mean = np.where(usable, x, 0).sum(-1, keepdims=True) / n
    centred: Array = np.where(usable, x - mean, 0)
    return centred
