"""What another head or another row left behind, and is still in this one's output.

A head's output is a sum of values that are its own. If V is not 0 in one head alone, it can only be
in the output of the query heads that use that one. Within a head the attention matrix shows it:
a row has the weights of a row before it besides its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..arena import AROUND, place, room
from ..judge import softmax
from .head import FITS, LEAST, Head, centred
from .mask import ROUGH
from .probe import Array, Probe
from .rules import sizes
from .words import ranges

MOST_TILE = 129  # rows back that are looked at
MOST_BEHIND = 64  # rows
MOST_ROWS = 0.7  # of those that have another before them


def read_carried(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Accumulators that are not cleared between heads, or between rows."""
    yield from _heads(probe) or _rows(probe) or _scores(probe)


def read_behind(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Do rows behind the last key count? In memory, V is 0 but for those."""
    case, placed = probe.case, place(probe.case)["v"]
    if case.half_kv or case.layout == "far" or not len(probe.dims):
        return
    row, n_rows = placed.strides[2], min(len(probe.dims), MOST_BEHIND)
    memory = np.zeros(room(placed), np.float32)
    begins = AROUND + (case.n_kv + np.arange(n_rows)) * row
    inside = begins + case.head_dim <= len(memory)
    memory[begins[inside] + probe.dims[:n_rows][inside]] = 1
    q, k, v = probe.drawn
    behind = probe.bench.ask(case, q, k, v, memory={"v": memory})
    nothing = probe.bench.ask(case, q, k, v, memory={"v": np.zeros_like(memory)})
    ones = np.zeros_like(memory)
    ones[AROUND : AROUND + (case.n_kv - 1) * row + case.head_dim] = 1
    own = probe.bench.ask(case, q, k, v, memory={"v": ones})
    if behind is None or own is None or nothing is None:
        return
    counts = np.abs((behind - nothing)[0, 0][:, probe.dims[:n_rows]]) > ROUGH
    if not counts.any() or np.median(np.abs(own[0, 0])) < ROUGH:
        return
    n = int(np.flatnonzero(counts.any(0))[-1]) + 1
    if n == n_rows or not counts.any(0)[:n].all():
        return  # no tail of a tile, but another way to read V
    tiles = [b for b in sizes(case.n_kv + n) if b > n and (case.n_kv + n) % b == 0]
    tile = f", of {tiles[0]}," if tiles else ""
    yield (
        "tail_not_cut",
        f"the {n} rows behind the last key count as keys ({ranges(case.n_kv + np.arange(n))}): the "
        f"last, partial tile{tile} is not cut at n_kv = {case.n_kv}",
    )


def _heads(probe: Probe) -> list[tuple[str, str]]:
    case = probe.case
    if case.batch * case.n_kv_head == 1:
        return []
    v = np.zeros_like(probe.drawn[2])
    v[0, 0] = probe.drawn[2][0, 0]
    in_it = np.abs(probe.out(v=v)).max((2, 3)) > ROUGH  # (batch, n_head)
    own = np.zeros_like(in_it)
    own[0] = probe.kv_head == 0
    if not (in_it & own).any() or not (in_it & ~own).any():
        return []
    b, h = np.argwhere(in_it & ~own)[0]
    return [
        (
            "acc_not_reset",
            f"out of head {h} (batch {b}) holds values of key head 0 (batch 0) besides its own: an "
            "accumulator is not cleared between heads",
        )
    ]


def _rows(probe: Probe) -> list[tuple[str, str]]:
    p = probe.own[0, 0]
    scores = probe.scores[0, 0]
    rest = p - softmax(scores, probe.mask)
    wrong = np.flatnonzero(np.abs(rest).max(1) > ROUGH)
    if not len(wrong) or wrong[0] == 0:
        return []
    back = int(wrong[0])  # the first row that can have another's is the first that is wrong
    if back > MOST_TILE or len(wrong) < MOST_ROWS * (len(p) - back):
        return []
    before = p[wrong - back]
    times = (before * rest[wrong]).sum(1) / (before**2).sum(1)
    if np.abs(rest[wrong] - times[:, None] * before).max() > ROUGH * np.abs(p).max():
        return []
    which = "the query before" if back == 1 else f"query i - {back}"
    return [
        (
            "acc_not_reset",
            f"out of query i holds that of {which} besides its own (queries {ranges(wrong)}): the "
            "accumulator is not cleared in between",
        )
    ]


def _scores(probe: Probe) -> list[tuple[str, str]]:
    """Scores that are added to what the row before left in their place: scores, or weights."""
    one = Head.of(probe, 0, 0)
    if len(one.p) < 3 or np.abs(one.rest).max() < FITS:
        return []
    summed = np.cumsum(np.where(probe.mask, one.s, 0), axis=0)
    before = np.zeros_like(one.p)
    before[1:] = one.p[:-1]

    def explains(left: Array) -> bool:
        x = centred(left, one.usable)
        times = (x * one.rest).sum(1) / np.maximum((x * x).sum(1), LEAST)
        off = np.where(one.usable, one.rest - times[:, None] * x, 0)
        return bool(np.abs(off).max() < 0.02 * np.abs(one.rest).max())

    for what, fits in (
        ("the scores of the queries", one.follows(summed)),
        # Where a row's own weights explain it as well, those of the row before are not told by it.
        ("the weights of the query", explains(before) and not explains(one.p)),
    ):
        if fits:
            return [
                (
                    "scores_accumulated",
                    f"to the scores of a query are added {what} before it, which are still in the "
                    "buffer: it is not cleared before the products are summed into it",
                )
            ]
    return []
