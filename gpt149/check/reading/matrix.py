"""What are scores and weights made of? The attention matrix of each head beside the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..arena import place
from . import scores, sums, weights
from .head import FITS, LEAST, Head, Said, top
from .keys import odd_keys
from .mask import ROUGH
from .probe import Array, Illegible, Probe

MOST_SCORES = 70_000  # of a head
VECTORS = (4, 8, 16)  # floats
USUAL_DIMS = (32, 64, 128)


def read_matrix(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Causes and sentences on scores and weights, in the first head that shows something."""
    if probe.scores[0, 0].size > MOST_SCORES:
        return
    found: dict[str, list[tuple[int, int, str]]] = {}
    n_heads = probe.case.batch * probe.case.n_head
    for b, h in np.ndindex(probe.case.batch, probe.case.n_head):
        said = _head(Head.of(probe, b, h))
        if said:
            found.setdefault(said[0], []).append((b, h, said[1]))
    for cause, heads in sorted(found.items(), key=lambda item: -len(item[1]))[:1]:
        b, h, sentence = heads[0]
        where = (
            ""
            if len(heads) == n_heads
            else f", in {len(heads)} of {n_heads} heads (first: batch {b}, head {h})"
        )
        if where and cause == "scores_ignored":
            where += ": the K, or the Q, of these is read where nothing is"
        yield cause, sentence + where


def _head(one: Head) -> Said | None:
    probe, p, s, usable, rest = one.probe, one.p, one.s, one.usable, one.rest
    if (p < -ROUGH).any():
        return sums.raw(one)
    several = probe.mask.sum(1) > 1
    alone = np.take_along_axis(p, np.where(probe.mask, s, -np.inf).argmax(1)[:, None], 1)
    if several.any() and (alone[several] > 1 - ROUGH).all():
        return "top_k", "only the largest score of a row counts: it has all the weight"
    try:
        flat = probe.flat[one.b, one.h]
    except Illegible:  # a query of zeros may be what it cannot take
        flat = probe.mask.astype(np.float64)
    leaks = ~probe.mask & (p > ROUGH) & (flat <= LEAST)
    if leaks.any():
        return weights.leaks(one, leaks)
    cut = probe.mask & (p <= LEAST) & (s - top(s, probe.mask) > np.log(weights.SUBNORMAL))
    cut &= flat.any(1, keepdims=True)
    lost = cut.any() and not (flat[cut] <= LEAST).any()
    if lost and (said := weights.levels(one) or weights.cut_off(one, cut)):
        return said
    readers: tuple[Callable[[Head], Said | None], ...]
    if np.abs(rest[usable]).max(initial=0) < FITS:
        readers = (
            sums.sums, scores.slope, scores.rounded, weights.levels, weights.odd_exp,
            scores.other_keys, weights.unstructured, sums.rough_sums,
        )  # fmt: skip
    else:
        readers = (
            scores.slope, scores.rounded, scores.by_dims, scores.by_key, scores.by_row,
            scores.rotated, sums.history, weights.of_score, sums.shifted, scores.left_over,
            weights.levels, weights.steps, odd_keys,
            weights.odd_exp, scores.other_keys, weights.unstructured, sums.saturated,
        )  # fmt: skip
    return next((said for reader in readers if (said := reader(one))), None)


def read_beyond(probe: Probe, others: Sequence[Probe] = ()) -> Iterator[Said]:
    """Are rows of q and k read beyond head_dim, up to a whole vector, or to another head_dim?"""
    if probe.case.half_kv:
        return
    d, one = probe.case.head_dim, Head.of(probe, 0, 0)
    if np.abs(one.rest[one.usable]).max(initial=0) < FITS:
        return
    for lanes in VECTORS:
        # Whole vectors must be right.
        whole = [Head.of(o, 0, 0) for o in others if o.case.head_dim % lanes == 0]
        right = all(np.abs(o.rest[o.usable]).max(initial=0) < FITS for o in whole)
        if d % lanes and right and _made_of(one, width := -(-d // lanes) * lanes):
            yield (
                "head_dim_rounded_up",
                f"scores are made of {width} dims where head_dim is {d}: rows are read up to a "
                f"whole vector of {lanes}, and what lies behind them counts",
            )
            return
    for width in USUAL_DIMS:
        if width > d and _made_of(one, width):
            yield (
                "head_dim_fixed",
                f"scores are made of {width} dims where head_dim is {d}: it is taken to be {width}",
            )
            return


def _made_of(one: Head, width: int) -> bool:
    """Whether log P follows products of rows of so many dims."""
    q, k = _rows(one.probe, "q", width), _rows(one.probe, "k", width)
    return one.follows(one.probe.case.scale_value * (q @ k.T))


def _rows(probe: Probe, name: str, width: int) -> Array:
    """Rows of head 0 and what lies behind them in memory: (n, width)."""
    placed = place(probe.case)[name]
    windows = np.lib.stride_tricks.sliding_window_view(probe.memory[placed.start :], width)
    last = (placed.shape[2] - 1) * placed.strides[2]
    return windows[: last + 1 : placed.strides[2]].astype(np.float64)
