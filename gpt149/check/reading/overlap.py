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
from .mask import ROUGH, TINY
from .probe import Array, Probe
from .words import NO_MATTER, ranges

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
    if stride == n_kv or stride < 2:
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


def read_dependence(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Which queries' weights change where the q of one query changes? Its own, and no other's."""
    n_q = probe.case.n_q
    if n_q < 6 or n_q * probe.case.n_kv > MOST_SCORES:
        return
    q, before = probe.gentle, probe.out(q=probe.gentle)[0, 0]
    some = sorted({1, *range(n_q // 2 - 2, n_q // 2 + 2), n_q - 2})
    changed: dict[int, set[int]] = {}
    for i in some:
        other = q.copy()
        other[0, 0, i] = -q[0, 0, i]
        after = probe.out(q=other)[0, 0]
        # A row that is only larger or smaller has another sum, and no other weights.
        size = np.sqrt((before**2).sum(1) / np.maximum((after**2).sum(1), TINY))
        off = np.abs(size[:, None] * after - before).max(1)
        changed[i] = set(np.flatnonzero(off > ROUGH * np.abs(before).max()).tolist())
    deaf = [i for i in some if i not in changed[i]]
    whose = {i: [of for of in some if i in changed[of]] for i in deaf}
    if deaf and any(whose.values()):
        i = next(i for i in deaf if whose[i])
        yield (
            "q_owner",
            f"query {i} uses the q of query {whose[i][0]}: its output changes with that, and not "
            f"with its own q (looked at: queries {ranges(some)}; so it is with {ranges(deaf)})",
        )
        return
    for i, rows in changed.items():
        if rows - {i}:
            yield (
                "scores_overlap",
                f"the weights of queries {ranges(sorted(rows - {i}))} change where the q of query "
                f"{i} does: rows of scores, or what is kept of a row (its maximum, its sum), share "
                "memory: they overlap, are used for several queries, or are still there from the "
                f"tile before. {NO_MATTER}",
            )
            return


def read_columns(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Is it the keys' weights that add up to 1, and not the queries'?"""
    p = probe.own[0, 0]
    if min(p.shape) < 4 or np.abs(p.sum(1) - 1).max() < 0.1:
        return
    if np.abs(p.sum(0) - 1).max() < ROUGH:
        yield (
            "normalised_columns",
            "for each key the weights of all queries add up to 1: softmax is taken over the "
            "queries (the columns), and not over the keys (the rows)",
        )


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
