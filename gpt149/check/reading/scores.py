"""What is a score made of?

log P is the score but for a constant of its row. So how log P follows q_x k_x says which dims count
and by how much, and what it is besides.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arena import place
from .head import FITS, LEAST, LEAST_KEYS, Head, Said, centred
from .probe import Array
from .words import factor, ranges

LEAST_SLOPE = 2e-6  # that is not rounding
MOST_EQUATIONS = 4000
MORE_EQUATIONS = 16  # than unknowns: what is left of them says whether they hold
MOST_ROUNDING = 0.25  # of the largest key: more is none
LEAST_ROUNDING = 5e-5  # of log P, that is not float32's
ROPE_BASE = 10_000.0


def slope(one: Head) -> Said | None:
    probe, s, usable, rest = one.probe, one.s, one.usable, one.rest
    x, y = centred(s, usable)[usable], centred(rest + s, usable)[usable]
    if not len(x) or not x @ x:
        return None
    slope = float(x @ y / (x @ x))
    left = np.abs(y - slope * x).max()
    if left > max(FITS, 2e-4 * np.abs(y).max()):
        return None
    if abs(slope - 1) * np.abs(x).max() < max(4 * left, LEAST_SLOPE * np.abs(x).max()):
        return None
    case = probe.case
    if abs(slope) < 1e-4:
        return "scores_ignored", "the scores do not count: all keys that are seen have equal weight"
    if abs(slope - 1) < 1e-3:
        return (
            "scale_wrong",
            f"the scores are multiplied once more before exp, by 1 {slope - 1:+.2g}: a "
            "constant has too "
            "few digits (the scale, log2(e), ln(2)?)",
        )
    effective = slope * case.scale_value
    return (
        "scale_wrong",
        f"the scores are multiplied once more before exp, by {factor(slope, case.head_dim)}: that "
        f"is a scale of {factor(effective, case.head_dim)} where {case.scale_value:.5g} was "
        "asked for",
    )


def by_dims(one: Head) -> Said | None:
    """A weight for each dim: 1 is right."""
    probe, s, usable, rest, b, h = one.probe, one.s, one.usable, one.rest, one.b, one.h
    case, d = probe.case, probe.case.head_dim
    q, k = (t.astype(np.float64) for t in probe.drawn[:2])
    rows = np.flatnonzero(usable.sum(1) > 1)
    n_keys = max(2, min(case.n_kv, MOST_EQUATIONS // max(1, min(len(rows), 40))))
    a, y = [], []
    for i in rows[-40:]:
        keys = np.flatnonzero(usable[i])[:n_keys]
        terms = case.scale_value * q[b, h, i] * k[b, probe.kv_head[h], keys]
        a.append(terms - terms.mean(0))
        logp = (rest + s)[i, keys]
        y.append(logp - logp.mean())
    if not rows.size or sum(map(len, y)) < d + MORE_EQUATIONS:
        return None
    left, right = np.concatenate(a), np.concatenate(y)
    weights = np.linalg.lstsq(left, right, rcond=None)[0]
    off = np.abs(left @ weights - right)
    if off.max() > max(FITS, 1e-3 * np.abs(right).max()):
        return None
    if np.median(np.abs(weights - 1)) > 0.05 and len(rows) == 1:
        return _other_query(one, weights * q[b, h, rows[0]])
    return describe_dims(weights, d)


def _other_query(one: Head, used: Array) -> Said:
    """Where in Q's memory lies the query that was used?"""
    case, placed = one.probe.case, place(one.probe.case)["q"]
    memory = one.probe.memory[placed.start : placed.start + placed.span]
    rows = np.lib.stride_tricks.sliding_window_view(memory, case.head_dim)
    off = np.abs(rows - used).max(1)
    at, right = int(off.argmin()), one.b * placed.strides[0] + one.h * placed.strides[1]
    found = f"Q is read at element {at}" if off[at] < 1e-2 else "Q is read at another place"
    return (
        "q_address",
        f"{found}, where the query of batch {one.b}, head {one.h} begins at element {right}: its "
        "strides, or its indices, are taken for others",
    )


def describe_dims(weights: Array, d: int) -> Said | None:
    """What is said of these weights of d dims, of which 1 is right; None where all are."""
    near = {name: np.abs(weights - value) < 0.01 for name, value in (("0", 0), ("1", 1), ("2", 2))}
    if near["1"].all():
        return None
    if (near["0"] | near["1"]).all():
        lost = np.flatnonzero(near["0"])
        tail = lost[0] == d - len(lost)
        return (
            "head_dim_cut" if tail else "dims_left_out",
            f"dims {ranges(lost)} of {d} do not count in the scores",
        )
    if (near["1"] | near["2"]).all():
        return (
            "dims_twice",
            f"dims {ranges(np.flatnonzero(near['2']))} of {d} count twice in the scores",
        )
    odd = np.flatnonzero(~near["1"])
    shown = ", ".join(f"dim {x} by {weights[x]:.3g}" for x in odd[:3])
    return "dims_weighed", f"in the scores dims count by other factors than 1: {shown}"


def by_key(one: Head) -> Said | None:
    """What is added to a score that depends on the key's place alone, linearly."""
    probe, s, usable, rest, h = one.probe, one.s, one.usable, one.rest, one.h
    j = np.broadcast_to(np.arange(probe.case.n_kv, dtype=np.float64), s.shape)
    x, y = centred(j, usable)[usable], rest[usable]
    if not x.any():
        return None
    slope = float(x @ y / (x @ x))
    if np.abs(y - slope * x).max() > max(FITS, 1e-2 * np.abs(y).max()):
        return None
    per_log2 = f" = 2^{np.log2(abs(slope)):.3g}" if slope else ""
    return (
        "position_bias",
        "a linear bias in the key's place is added to the scores, as ALiBi's: "
        f"{slope:.5g}{per_log2} a key in head {h}",
    )


def left_over(one: Head) -> Said | None:
    """What another head or another row left in the buffer, and is added to the scores."""
    probe, usable, rest, b, h = one.probe, one.usable, one.rest, one.b, one.h
    others = [(f"head {e}", e) for e in (h - 1, h + 1, 0) if 0 <= e < probe.case.n_head and e != h]
    rows = usable.sum(1) >= LEAST_KEYS

    def explains(left: Array) -> bool:
        x = centred(left, usable)
        # What is left may not be divided by its sum: then it is so many times as much.
        times = (x * rest).sum(1) / np.maximum((x * x).sum(1), LEAST)
        off = np.where(usable, rest - times[:, None] * x, 0)
        return bool(np.abs(off[rows]).max() < max(FITS, 0.02 * np.abs(rest[rows]).max()))

    if not rows.any() or explains(one.p):
        return None  # where the head's own weights explain it as well, no other's are told by it
    for whose, e in others:
        for what, left in (("weights", probe.own[b, e]), ("scores", probe.scores[b, e])):
            if explains(left):
                return (
                    "scores_accumulated",
                    f"to the scores of head {h} are added the {what} of {whose}, which are "
                    "still in the buffer: it is not cleared before the products are summed into it",
                )
    return None


def by_row(one: Head) -> Said | None:
    """A factor for each query, or for each key: one of them is normalised, or scaled by itself."""
    q, k = (t.astype(np.float64) for t in one.probe.drawn[:2])
    q, k = q[one.b, one.h], k[one.b, one.probe.kv_head[one.h]]
    x, y = centred(one.s, one.usable), centred(one.rest + one.s, one.usable)
    rows = one.usable.sum(1) >= LEAST_KEYS
    times = (x * y).sum(1) / np.maximum((x * x).sum(1), LEAST)
    if rows.any() and np.abs(y - times[:, None] * x)[rows].max() < FITS:
        length = times[rows] * np.sqrt((q[rows] ** 2).sum(1))
        if np.ptp(length) < 1e-2 * np.abs(length).max():
            return "queries_normalised", "the queries are divided by their lengths"
        return (
            "scale_wrong",
            "each query's scores are multiplied by a number of its own, from "
            f"{times[rows].min():.3g} to {times[rows].max():.3g}",
        )
    if one.follows(one.s / np.sqrt((k**2).sum(1))) or one.follows(
        one.s / np.sqrt((k**2).sum(1)) / one.probe.case.scale_value
    ):
        return "keys_normalised", "the keys are divided by their lengths"
    return None


def rotated(one: Head) -> Said | None:
    """Rotary position embeddings (Su et al. 2021), in pairs of neighbours or of halves."""
    case = one.probe.case
    if case.head_dim % 2:
        return None
    q, k = (t.astype(np.float64) for t in one.probe.drawn[:2])
    q, k = q[one.b, one.h], k[one.b, one.probe.kv_head[one.h]]
    half = case.head_dim // 2
    turns = ROPE_BASE ** (-np.arange(half) / half)
    begin = case.n_kv - case.n_q
    for pairs, a, b in (
        ("of neighbours (2x, 2x + 1)", slice(0, None, 2), slice(1, None, 2)),
        ("(x, x + head_dim / 2)", slice(None, half), slice(half, None)),
    ):
        for at in {0, begin}:
            turned = [
                (t[:, a] + 1j * t[:, b]) * np.exp(1j * np.outer(np.arange(n) + first, turns))
                for t, n, first in ((q, case.n_q, at), (k, case.n_kv, 0))
            ]
            if one.follows(case.scale_value * (turned[0] @ turned[1].conj().T).real):
                return (
                    "rope",
                    "queries and keys are rotated by their positions, as rotary embeddings do "
                    f"(RoPE), in pairs {pairs}: the caller's model has done that, or has none",
                )
    return None


def rounded(one: Head) -> Said | None:
    """Scores of q or k in a shorter format."""
    case, right = one.probe.case, one.rest + one.s
    q, k = (t[one.b] for t in one.probe.drawn[:2])
    q, k = q[one.h], k[one.probe.kv_head[one.h]]
    left = np.abs(one.rest[one.usable]).max(initial=0)
    if left < LEAST_ROUNDING:
        return None
    for name, lost in (("bfloat16", 16), ("IEEE half", 13)):
        for how in (0, 1 << (lost - 1)):
            short_q, short_k = _short(q, lost, how), _short(k, lost, how)
            tried = (("K is", q, short_k), ("Q is", short_q, k), ("Q and K are", short_q, short_k))
            for what, a, b in tried:
                s = case.scale_value * (a.astype(np.float64) @ b.astype(np.float64).T)
                off = np.abs(centred(right - s, one.usable)[one.usable]).max(initial=0)
                if off < 0.1 * left:
                    return "half_precision", f"{what} rounded to {name} before the scores"
    return None


def other_keys(one: Head) -> Said | None:
    """Scores of keys that differ a little from K: what is left over is linear in the query."""
    q = one.probe.drawn[0][one.b, one.h].astype(np.float64)
    rows = np.flatnonzero(one.usable[:, :2].all(1))
    if len(rows) < q.shape[1] + MORE_EQUATIONS:
        return None
    y = (one.rest[:, 1] - one.rest[:, 0])[rows]
    off, *_ = np.linalg.lstsq(q[rows], y, rcond=None)
    if np.abs(y).max() < LEAST_ROUNDING or np.abs(q[rows] @ off - y).max() > 0.1 * np.abs(y).max():
        return None
    size = np.abs(off).max() / one.probe.case.scale_value
    if size > MOST_ROUNDING * np.abs(one.probe.drawn[1]).max():
        return (
            "k_is_another",
            "scores are products of Q, but with other keys than K's: what is taken for key 1 (less "
            f"key 0) is off by up to {size:.2g}. K is read elsewhere, or changed before",
        )
    return (
        "k_rounded",
        f"scores are made of other keys than K's: elements of K are off by up to about {size:.1g}, "
        "as if they were kept in few bits (quantised)",
    )


def _short(t: NDArray[np.float32], lost: int, add: int) -> NDArray[np.float32]:
    bits = np.ascontiguousarray(t).view(np.uint32) + np.uint32(add)
    short: NDArray[np.float32] = (bits >> np.uint32(lost) << np.uint32(lost)).view(np.float32)
    return short
