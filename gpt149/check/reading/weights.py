"""What is a weight made of? What softmax does with scores that are right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..judge import softmax
from .head import FITS, LEAST, LEAST_KEYS, Head, Said, centred, top
from .mask import ROUGH
from .probe import Array
from .words import ranges

SUBNORMAL = np.exp(-60)  # of the largest weight: what is smaller is not looked at
LEAST_EXP = 5e-5  # relative, that is not rounding
MOST_EXP = 4.0  # of log P: more is no approximation of exp
LEAST_ROWS = 0.1  # of those that could, show a step between blocks
WINDOW = 5  # neighbouring distances, over which a function of them hardly changes
MOST_JUMPS = 0.25  # of its keys
MOST_STEPS = 4  # that are at no regular places
PARTS = range(2, 17)  # into which a row's keys may be split
SAME_PARTS = 0.7  # of the rows must be split alike
ROUNDED = 32 * 2.0**-24  # of a score: as much as float32 may move log P
MOST_ROUNDING = 0.05  # of log P: more is no rounding
NUDGE = 2.0**-13  # relative
LEVELS = (255, 256, 127, 128, 15, 16, 1023, 1024)


def cut_off(one: Head, cut: NDArray[np.bool_]) -> Said | None:
    """Keys that count where all scores are 0, and do not for these scores."""
    mask, s = one.probe.mask, one.s
    kept = mask & ~cut
    counts = kept.sum(1)[cut.any(1)]
    lowest = np.where(kept, s, np.inf).min(-1)
    highest = np.where(cut, s, -np.inf).max(-1)
    ordered = bool((highest[cut.any(1)] <= lowest[cut.any(1)] + ROUGH).all())
    if ordered and (counts == counts[0]).all():
        return "top_k", f"only the {counts[0]} largest scores of a row count (others weigh 0)"
    right = softmax(s, mask)
    if right[cut].max() <= right[kept].min():
        return (
            "cut_off",
            f"weights below {np.sqrt(right[cut].max() * right[kept].min()):.2g} are taken for 0",
        )
    so_far = np.maximum.accumulate(np.where(mask, s, -np.inf), axis=1)
    for name, maximum in (("row's maximum", top(s, mask)), ("maximum so far", so_far)):
        below = maximum - s
        if below[cut].min() >= below[kept].max() - ROUGH:
            return (
                "cut_off",
                f"scores of {below[cut].min():.4g} and more below the {name} get weight 0",
            )
    if exits := _early_exit(np.asarray(right, np.float64), cut, mask):
        return exits
    keys, below = np.flatnonzero(cut.any(0)), (top(s, mask) - s)[cut].min()
    if below < ROUGH:
        return None  # not even the largest score counts: these are others' scores
    return (
        "keys_lost",
        f"keys {ranges(keys)} get weight 0 in some rows though they count where all scores are "
        f"equal: what decides is the score (all of those are {below:.3g} or more below the row's "
        "maximum)",
    )


def _early_exit(right: Array, cut: NDArray[np.bool_], mask: NDArray[np.bool_]) -> Said | None:
    """Rows that end at their first small weight; right: the weights as they should be."""
    rows = np.flatnonzero(cut.any(1))
    first = cut[rows].argmax(1)
    behind = np.arange(cut.shape[1]) >= first[:, None]
    e = right / right.max(1, keepdims=True)
    if not np.array_equal(cut[rows], behind & (mask & (e > SUBNORMAL))[rows]):
        return None
    largest = e[rows, first].max()
    smallest = np.where(mask & ~cut & (e > SUBNORMAL), e, 1).min()
    if largest > smallest:
        return None
    size = f" (below {largest:.2g} of the largest)" if largest < 0.5 else ""
    return (
        "early_exit",
        f"a row stops at its first key of small weight{size}: the keys behind it are lost, "
        "whatever their scores are",
    )


def leaks(one: Head, leaks: NDArray[np.bool_]) -> Said:
    """Hidden keys that get weight, though they get none where all scores are equal."""
    probe, p, s = one.probe, one.p, one.s
    i, j = np.argwhere(leaks)[0]
    seen = probe.mask[i] & (p[i] > LEAST)
    value = ""
    if seen.any():
        at = int(np.where(seen, p[i], 0).argmax())
        value = f" (about {np.log(p[i, j] / p[i, at]) + s[i, at]:.4g})"
    return (
        "mask_leaks",
        "hidden keys get weight where scores are low or far apart: the mask is a number that "
        "is put "
        f"in their place or added{value}, and not -infinity (first: key {j} for query {i})",
    )


def steps(one: Head) -> Said | None:
    """Blocks of keys, right in themselves, that are weighed against each other."""
    usable, rest = one.usable, one.rest
    both = usable[:, 1:] & usable[:, :-1]
    step = np.where(both, np.diff(rest, axis=1), 0)
    jump = np.abs(step) > 2 * FITS
    n_steps, n_both = jump.sum(1), both.sum(1)
    rows = np.flatnonzero(jump.any(1))
    long = n_both >= LEAST_KEYS
    if not jump[long].any() or (n_steps > MOST_JUMPS * n_both)[long].any():
        return None
    places = np.flatnonzero(jump.any(0)) + 1
    could = both[:, places - 1].any(1)
    if jump.any(1).sum() < LEAST_ROWS * could.sum():
        return None
    blocks = _blocks(places, jump, both)
    if not blocks:
        return None
    signs = step[jump]
    direction = (
        "the earlier blocks weigh too much"
        if (signs < 0).all()
        else "the earlier blocks weigh too little"
        if (signs > 0).all()
        else "some weigh too much, some too little"
    )
    which = f" in queries {ranges(rows)}" if len(rows) < usable.shape[0] - 1 else ""
    return (
        "blocks_weighed",
        f"{blocks} are right among themselves, but weighed wrongly against each other{which}: "
        f"{direction}. Look at the rescaling by the running maximum, or at the merge of splits",
    )


def _blocks(places: NDArray[np.intp], jump: NDArray[np.bool_], both: NDArray[np.bool_]) -> str:
    """The blocks between which weights jump, in words; empty if they are at no regular places."""
    size = int(np.gcd.reduce(places))
    if size > 1 or len(places) <= MOST_STEPS:
        tile = f"tiles of {size} keys" if size > 1 else "blocks of keys"
        return f"{tile} (weights jump at keys {ranges(places)})"
    rows = np.flatnonzero(jump.any(1) & (both.sum(1) >= LEAST_KEYS))
    alike = {n: sum(_split(n, jump[i], int(both[i].sum()) + 1) for i in rows) for n in PARTS}
    n_parts, n_rows = max(alike.items(), key=lambda item: item[1])
    if n_rows < SAME_PARTS * len(rows):
        return ""
    return f"the {n_parts} parts into which each row's keys are split"


def _split(n_parts: int, jump: NDArray[np.bool_], n: int) -> bool:
    """Whether most jumps that a row of n keys in so many equal parts could have are there alone."""
    places = set((np.flatnonzero(jump) + 1).tolist())
    some = range(1, n_parts)
    equal = ([n * s // n_parts for s in some], [-(-n // n_parts) * s for s in some])
    return len(places) > 0.5 * (n_parts - 1) and any(places <= set(ends) for ends in equal)


def of_score(one: Head) -> Said | None:
    """What exp makes of scores: of the score itself, or of its distance from the maximum."""
    s, usable, logp = one.s, one.usable, np.log(np.maximum(one.p, LEAST))
    below = s - top(s, one.probe.mask)
    order = np.argsort(below[usable], kind="stable")
    largest = np.where(usable, logp, -np.inf).max(-1, keepdims=True)
    if said := _clamped(below[usable][order], (logp - largest)[usable][order]):
        return said
    if cap := _cap(one, lambda c: c * np.tanh(s / c)):
        return (
            "softcap",
            f"scores are capped softly before exp: {cap:.4g} tanh(s / {cap:.4g}) instead of s",
        )
    if cap := _cap(one, lambda c: np.clip(s, -c, c)):
        return "scores_clamped", f"scores are clamped to -{cap:.4g} .. {cap:.4g} before exp"
    if cap := _cap(one, lambda c: np.minimum(s, c)):
        return "scores_clamped", f"scores above {cap:.4g} are clamped to that before exp"
    return None


def odd_exp(one: Head) -> Said | None:
    """A function of the distance from the row's maximum that is not exp."""
    probe, p, s, usable = one.probe, one.p, one.s, one.usable
    logp = np.log(np.maximum(p, LEAST))
    x = (s - top(s, probe.mask))[usable]
    y = (logp - np.where(usable, logp, -np.inf).max(-1, keepdims=True))[usable]
    order = np.argsort(x)
    x, wrong = x[order], (y - x)[order]
    if len(x) < 64:
        return None
    # Where exp is a function of the distance, and a wrong one, neighbours are wrong alike.
    near = x > -12
    size = np.abs(wrong[near]).max(initial=0)
    if near.sum() < WINDOW or not LEAST_EXP < size < MOST_EXP:
        return None
    around = np.lib.stride_tricks.sliding_window_view(wrong[near], WINDOW)
    rough = np.quantile(around.max(1) - around.min(1), 0.9)
    if rough < 0.2 * size:
        at = int(np.abs(np.where(near, wrong, 0)).argmax())
        return (
            "exp_wrong",
            "exp is not exp, but a poor approximation: it is off by "
            f"{abs(np.expm1(wrong[at])):.2g} of "
            f"its value where a score is {-x[at]:.3g} below the row's maximum; scores and sums "
            "are right",
        )
    return None


def _clamped(x: Array, y: Array) -> Said | None:
    """exp(max(x, -c)): the line ends in a floor. x rises; y = log P less that of the row's top."""
    floor = y.min()
    low = y < floor + 10 * FITS
    if low.sum() < 3 or not low[: int(low.sum() * 0.9)].all() or x[low].max() - x[low].min() < 0.05:
        return None
    rest = ~low
    if rest.sum() < 3 or np.abs(y[rest] - x[rest]).max() > 0.02 * max(1.0, np.abs(x).max()):
        return None
    return (
        "exp_clamped",
        f"exp is clamped: scores further than {-floor:.4g} below the row's maximum all get the "
        f"weight exp({floor:.4g}), instead of less and less",
    )


def _cap(one: Head, capped: Callable[[float], Array]) -> float:
    """The c for which capped(c) explains log P but for a constant; 0 if none does."""
    right, usable = one.rest + one.s, one.usable
    largest = np.abs(one.s[usable]).max(initial=0)
    best, cap = np.inf, 0.0
    rough = np.geomspace(max(largest / 20, 0.05), largest * 20 + 1, 120)
    for fine in (False, True):
        for c in np.linspace(cap * 0.95, cap * 1.05, 201) if fine else rough:
            off = np.abs(centred(capped(c) - right, usable)[usable]).max()
            if off < best:
                best, cap = off, float(c)
    spread = np.abs(one.rest[usable]).max()
    return cap if best < max(min(2 * FITS, 0.1 * spread), 0.02 * spread) else 0.0


def unstructured(one: Head) -> Said | None:
    """Weights that are off a little, without a pattern: rounding, or an approximation?

    Scores move by less than a step of a short format. What is kept in one stays where it is.
    """
    probe, usable = one.probe, one.usable
    size = float(np.abs(one.rest[usable]).max(initial=0))
    if not max(LEAST_EXP, ROUNDED * np.abs(one.s[usable]).max(initial=0)) < size < MOST_ROUNDING:
        return None
    # The largest of a row may be what the others are scaled by.
    q = probe.drawn[0]
    largest = np.abs(q) == np.abs(q).max(-1, keepdims=True)
    q = np.where(largest, q, q * np.float32(1 + NUDGE))
    nudged = probe.weights(q=q)
    moved = Head.of(probe, one.b, one.h, nudged[one.b, one.h])
    k = probe.drawn[1][one.b, probe.kv_head[one.h]].astype(np.float64)
    s = probe.case.scale_value * (q[one.b, one.h].astype(np.float64) @ k.T)
    right = np.diff(s - one.s, axis=1)
    got = np.diff(moved.rest - one.rest, axis=1)
    both = usable & moved.usable
    telling = (np.abs(right) > 0.5 * NUDGE) & both[:, 1:] & both[:, :-1]
    stays = np.abs(got)[telling] < 0.3 * np.abs(right)[telling]
    if not telling.any():
        return None
    if stays.mean() < 0.5:
        return (
            "exp_wrong",
            f"exp is a rough approximation: weights are off by up to {size:.2g} of their size, and "
            "follow small changes of the scores, as rounded ones would not",
        )
    bits = int(np.clip(round(-np.log2(size)), 4, 13))
    name = {8: " (bfloat16)", 11: " (IEEE half)"}.get(bits, "")
    return (
        "half_precision",
        f"weights are off by up to {size:.2g} of their size, without a pattern, and stay where "
        f"they are when scores move a little: something is kept in about {bits} bits{name}",
    )


def levels(one: Head) -> Said | None:
    """Weights that are whole multiples of a part of the row's largest."""
    largest = one.p.max(1, keepdims=True)
    if not (largest > 0).all():
        return None
    ratio = (one.p / largest)[one.probe.mask]
    if len(np.unique(np.round(ratio, 5))) < 8:
        return None
    for n in LEVELS:
        if np.abs(n * ratio - np.rint(n * ratio)).max() < ROUGH:
            return (
                "quantised",
                f"weights are quantised to {n} steps of the row's largest: {n + 1} discrete levels",
            )
    return None
