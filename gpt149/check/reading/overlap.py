"""Scores that overwrite each other: a row of P is made of other rows' scores, moved along.

A buffer of scores that is written with one stride and read with another mixes rows. Each score is
recognised by how it differs from its neighbour, which says whose it is, hence the stride.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .probe import Probe
from .scores import LEAST

MOST_ELEMENTS = 300  # that are looked for among all scores
MOST_SCORES = 70_000
LEAST_SHARE = 0.6  # of a row's elements that must be recognised


def read_overlap(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """The stride that scores are kept with, where rows overlap."""
    case = probe.case
    n_q, n_kv = case.n_q, case.n_kv
    if n_q < 3 or n_kv < 4 or n_q * n_kv > MOST_SCORES:
        return
    p, s = probe.own[0, 0], probe.scores[0, 0]
    with np.errstate(divide="ignore"):
        logp = np.log(np.maximum(p, LEAST))
    steps = np.diff(s, axis=1)  # (n_q, n_kv - 1): of which row, at which column
    strides: dict[int, int] = {}
    recognised = total = 0
    usable = (p > LEAST)[:, 1:] & (p > LEAST)[:, :-1]
    places = np.argwhere(usable)
    for i, j in places[:: max(1, len(places) // MOST_ELEMENTS)]:
        total += 1
        off = np.abs(steps - (logp[i, j + 1] - logp[i, j]))
        a, b = np.unravel_index(off.argmin(), off.shape)
        if off[a, b] > 1e-3 or (a, b) == (i, j):
            continue
        recognised += 1
        # Read at i * n_kv + j, written at a * stride + b.
        if a and (i * n_kv + j - b) % a == 0:
            stride = int((i * n_kv + j - b) // a)
            strides[stride] = strides.get(stride, 0) + 1
    if total == 0 or recognised < 0.3 * total or not strides:
        return
    stride, n = max(strides.items(), key=lambda item: item[1])
    if stride == n_kv or n < LEAST_SHARE * recognised:
        return
    name = "head_dim" if stride == case.head_dim else str(stride)
    yield (
        "scores_overlap",
        f"the scores of (i, j) are kept at i*{name} + j, so that rows overlap (the buffer's rows "
        "are n_kv apart, and are read so): rows of the attention matrix hold other rows' "
        "scores, moved "
        f"along ({n} of {total} of its elements were recognised)",
    )
