"""Scores that overwrite each other: a buffer that is written with one stride and read with another.

A query that is not 0 makes scores that are not 0, and wherever in the attention matrix they turn up
is where its row was written. That holds whatever was read for K, so K can then be read through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .addresses import read_k
from .head import LEAST
from .probe import Array, Probe
from .words import NO_MATTER

MOST_SCORES = 70_000


def read_overlap(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """The stride that scores are kept with, where rows overlap, and what was read for K."""
    probe = Probe(probe.bench, replace(probe.case, causal=False))  # all weights can be seen
    case = probe.case
    n_q, n_kv = case.n_q, case.n_kv
    if n_q < 4 or n_kv < 4 or n_q * n_kv > MOST_SCORES:
        return
    rows = (1, 2, n_q // 2)
    begins = [_begin(probe, i) for i in rows]
    if any(begin is None for begin in begins):
        return
    stride = begins[1] - begins[0]  # type: ignore[operator]
    if stride == n_kv or stride < 1:
        return
    if any(begin != i * stride for i, begin in zip(rows, begins, strict=True)):
        return
    name = "head_dim" if stride == case.head_dim else str(stride)
    said = (
        f"the scores of (i, j) are kept at i*{name} + j, so that rows overlap (the buffer's rows "
        "are n_kv apart, and are read so)"
    )
    places = (n_q - 1) * stride + np.arange(n_kv)  # the last row's: nobody writes over them
    if places[-1] < n_q * n_kv and (k := list(read_k(probe, (), places))):
        yield (
            "k_address + scores_overlap",
            f"{k[0][1].removesuffix(f'. {NO_MATTER}')}; and {said}. {NO_MATTER}",
        )
    else:
        yield "scores_overlap", f"{said}. {NO_MATTER}"


def _begin(probe: Probe, row: int) -> int | None:
    """Where in the attention matrix, row by row, the scores of this query's begin; None: nowhere.

    Scores of all other queries are 0, so all other weights of a row are the same number.
    """
    q = np.zeros_like(probe.drawn[0])
    q[0, 0, row] = probe.gentle[0, 0, row]
    changed = np.flatnonzero(~_usual(probe.weights(q=q)[0, 0]))
    return int(changed[0]) if len(changed) else None


def _usual(p: Array) -> NDArray[np.bool_]:
    """Which weights are what most of their row are, as those of a score of 0."""
    return np.stack([np.abs(row - np.median(row)) <= 1e-6 * np.abs(row).max() + LEAST for row in p])
