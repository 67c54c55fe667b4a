"""What is a row of weights divided by, and is that the sum of the whole row?"""

from __future__ import annotations

import numpy as np

from .head import FITS, LEAST, LEAST_KEYS, Head, Said, centred, top
from .mask import ROUGH
from .probe import Array
from .words import ranges

LEAST_ALIKE = 3  # keys, and rows
MUCH_BETTER = 20.0  # times less is left with a shift than without
SAME_WEIGHT = 1e-5  # of log P
MOST_WHOLE, NEAR_WHOLE = 4096, 0.02  # of a sum: float32 tells it from others to so much
LEAST_WHOLE = 8  # rows
LEAST_SUM = 4e-6  # that is not rounding


def raw(one: Head) -> Said:
    """Weights below 0: what exp gives is not."""
    probe, p, s = one.probe, one.p, one.s
    hidden = ~probe.mask & (np.abs(p) > ROUGH)
    if hidden.any() and (p[probe.mask] > -ROUGH).all():
        i, j = np.argwhere(hidden)[0]
        raw = " (their raw scores)" if np.allclose(p[hidden], s[hidden], rtol=ROUGH) else ""
        return (
            "mask_leaks",
            f"hidden keys weigh what exp did not make{raw}, below 0 as well: their places are not "
            f"set to 0, and the product P V takes them (first: key {j} for query {i})",
        )
    x = np.where(probe.mask, s, 0)
    times = (p * x).sum(1) / np.maximum((x * x).sum(1), LEAST)
    if np.abs(p - times[:, None] * x).max() <= ROUGH * np.abs(p).max():
        return (
            "exp_not_stored",
            "weights are the raw scores, each row divided by a number of its own: exp is summed "
            "for l, but not kept as the weight",
        )
    e = np.where(probe.mask, np.exp(s - top(s, probe.mask)), 0)
    times = (p * e).sum(1) / (e * e).sum(1)
    if np.abs(p - times[:, None] * e).max() <= ROUGH * np.abs(p).max():
        l = np.exp(top(s, probe.mask)[:, 0]) / times
        said = _divisor(one, l) or "weights are right against each other, but of either sign"
        return "sum_wrong", said
    return shifted(one) or ("weights_negative", "weights are below 0, which no exp gives")


def shifted(one: Head) -> Said | None:
    """Weights that are exp plus or minus a number of each row's."""
    mask, p, s = one.probe.mask, one.p, one.s
    e = np.where(mask, np.exp(s - top(s, mask)), 0)
    n = np.maximum(mask.sum(1, keepdims=True), 1)
    mean_e, mean_p = ((np.where(mask, x, 0).sum(1, keepdims=True) / n) for x in (e, p))
    de, dp = (np.where(mask, x - mean, 0) for x, mean in ((e, mean_e), (p, mean_p)))
    a = (de * dp).sum(1, keepdims=True) / np.maximum((de * de).sum(1, keepdims=True), LEAST)
    long = mask.sum(1) >= LEAST_KEYS
    if not long.any() or np.abs((dp - a * de)[long]).max() > ROUGH * np.abs(p[long]).max():
        return None
    off = ((mean_p - a * mean_e) / a * np.exp(top(s, mask)))[long, 0]
    highest = top(s, mask)[long, 0]
    alone = (e * p).sum(1, keepdims=True) / (e * e).sum(1, keepdims=True)
    left, without = (np.abs(x[long]).max() for x in (dp - a * de, np.where(mask, p - alone * e, 0)))
    if np.abs(off).max() < ROUGH or without < MUCH_BETTER * left:
        return None
    if np.allclose(-off, highest, rtol=1e-2, atol=1e-2):
        return "exp_shifted", "weights are exp(s) - m: the maximum is subtracted behind exp"
    alike = np.ptp(off) < 1e-2 * np.abs(off).max()
    number = f"{np.median(off):+.4g}" if alike else "a number of the row's own"
    return "exp_shifted", f"weights are not exp(s), but exp(s) and {number} beside it"


def _divisor(one: Head, l: Array) -> str:
    """What the numbers l are, by which each row of exp(s) is divided; empty if it is not known."""
    mask, s = one.probe.mask, one.s
    x, several, highest = np.where(mask, s, 0), mask.sum(1) > 1, top(s, mask)[:, 0]
    rows = (
        ("the sum of the raw scores: exp is taken behind it", x.sum(1)),
        ("the row's largest score", top(s, mask)[:, 0]),
        ("the number of keys", mask.sum(1).astype(np.float64)),
        ("1: l is not what the output is divided by", np.ones_like(l)),
        ("l squared", np.where(mask, np.exp(s), 0).sum(1) ** 2),
        ("the square root of l", np.sqrt(np.where(mask, np.exp(s), 0).sum(1))),
    )
    for kept, by in (("exp(s)", l), ("exp(s - m)", l * np.exp(-highest))):
        for name, row in rows:
            near = ROUGH * np.abs(row) + ROUGH / 10 * np.abs(x).sum(1)
            if (np.abs(by - row) <= near)[several].all():
                return f"each row of {kept} is divided not by its sum l, but by {name}"
        few = several & (by < MOST_WHOLE)
        if few.sum() >= LEAST_WHOLE and (np.abs(by - np.rint(by)) < NEAR_WHOLE)[few].all():
            return (
                f"each row of {kept} is divided by a whole number, {by[few][-1]:.0f} in query "
                f"{np.flatnonzero(few)[-1]}: its sum l is kept in an integer"
            )
    return ""


def history(one: Head) -> Said | None:
    """Weights that depend on the keys before: a sum, or a maximum, that is not the whole row's."""
    mask, s = one.probe.mask, one.s
    highest = top(s, mask)
    so_far = np.maximum.accumulate(np.where(mask, s, -np.inf), axis=1)
    summed = highest + np.log(np.cumsum(np.where(mask, np.exp(s - highest), 0), 1))
    rising, below = np.where(mask, so_far, 0), np.where(mask, summed, 0)
    if one.follows(s - below):
        return (
            "sum_so_far",
            "each key's weight is divided by the sum l so far, up to its own key, and not by that "
            "of the whole row",
        )
    if one.follows(s - rising):
        return (
            "not_rescaled",
            "each key's weight is exp(s - m) with the maximum so far: where the maximum rises, "
            "neither what was added up before nor its sum l is rescaled",
        )
    if one.follows(s - below + rising):
        return (
            "sum_so_far",
            "each key's weight is divided by the sum so far of exp(s - m), with the maximum so far",
        )
    return _records(one, so_far)


def _records(one: Head, so_far: Array) -> Said | None:
    """Are the keys that are weighed wrongly those that raise the row's maximum?"""
    records = one.usable.copy()
    records[:, 1:] &= so_far[:, 1:] > so_far[:, :-1]
    others = one.usable & ~records
    several = others.sum(1) >= LEAST_KEYS
    rest = centred(one.rest, others) if several.any() else one.rest
    mean = np.where(others, one.rest, 0).sum(1) / np.maximum(others.sum(1), 1)
    if not several.any() or np.abs(rest[several]).max(initial=0) > FITS:
        return None
    off = np.where(records, one.rest - mean[:, None], 0)[several]
    if (np.abs(off) > FITS).sum() < several.sum() / 2:
        return None
    few = "too little" if (off < FITS).all() else "too much" if (off > -FITS).all() else "wrongly"
    return (
        "records_wrong",
        f"only keys whose score is above all before them are weighed {few}, by up to "
        f"exp({np.abs(off).max():.3g}); the others are right against each other: look at what is "
        "done where the maximum rises, or should",
    )


def saturated(one: Head) -> Said | None:
    """Do keys of different scores get the same weight, as if exp ended at 1?"""
    n_rows, long = 0, np.flatnonzero(one.usable.sum(1) >= LEAST_KEYS)
    for i in long:
        keys = np.flatnonzero(one.usable[i])
        keys = keys[np.argsort(one.p[i, keys])]
        logp, s = np.log(one.p[i, keys]), one.s[i, keys]
        begins = np.flatnonzero(np.append(True, np.diff(logp) > SAME_WEIGHT))
        groups = np.split(np.arange(len(keys)), begins[1:])
        alike = max(groups, key=len)
        if len(alike) < LEAST_ALIKE or np.ptp(s[alike]) < 100 * SAME_WEIGHT:
            continue
        first = keys[alike].min()  # of which the weight is right
        if (one.s[i, keys[alike]] >= one.s[i, first] - FITS).all():
            n_rows += 1
    if n_rows < max(LEAST_ALIKE, 0.5 * len(long)):
        return None
    return (
        "records_wrong",
        f"keys of different scores get the same weight (in {n_rows} rows), that of a key before "
        "them whose score is lower: exp(s - m) is cut off at 1 where the maximum is not raised",
    )


def sums(one: Head) -> Said | None:
    """Weights that are right against each other: is their sum 1?"""
    probe, p, s = one.probe, one.p, one.s
    sums = np.where(probe.mask, p, 0).sum(-1)
    rows = probe.mask.any(1)
    off = np.abs(sums - 1)
    if off[rows].max(initial=0) < ROUGH:
        return None
    highest = top(s, probe.mask)
    l = np.where(probe.mask, np.exp(s - highest), 0).sum(-1)
    with np.errstate(divide="ignore", over="ignore"):
        more = l / sums - l  # what the sum has besides, in units of the largest weight
    i = int(off.argmax())
    wrong = np.flatnonzero(rows & (off >= ROUGH))
    which = f"queries {ranges(wrong)}" if len(wrong) < rows.sum() else "every query"
    for name, unit in (("exp of a score of 0", np.exp(-highest[:, 0])), ("1", np.ones_like(l))):
        times = (more / unit)[rows]
        n = float(np.median(times))
        if len(times) > 2 and np.allclose(times, n, rtol=1e-2, atol=1e-3):
            return (
                "sum_wrong",
                f"weights are right against each other, but the sum l has {n:.4g} times {name} "
                f"more than it should ({which})",
            )
    if said := _divisor(one, l * np.exp(highest[:, 0]) / sums):
        return "sum_wrong", said
    return (
        "sum_wrong",
        f"weights are right against each other, but their sum is not 1: the sum l (or the maximum "
        f"that it goes with) is wrong ({which}; query {i} adds up to {sums[i]:.4g})",
    )


def rough_sums(one: Head) -> Said | None:
    """Rows that add up to nearly 1: more than rounding is off, and less than a key's weight."""
    mask = one.probe.mask
    off = np.where(mask, one.p, 0).sum(-1) - 1
    size = float(np.abs(off).max())
    if size < LEAST_SUM:
        return None
    l = np.where(mask, np.exp(one.s - top(one.s, mask)), 0).sum(-1)
    more = (-off * l)[np.abs(off) > LEAST_SUM]
    if len(more) > 1 and np.ptp(more) < 0.3 * np.abs(more).max():
        return (
            "sum_wrong",
            f"the sum l has about {np.median(more):.1g} too much in every row: an epsilon is added "
            "to it",
        )
    return (
        "sum_rough",
        f"weights are right against each other, but add up to 1 only within {size:.1g}: the "
        "division by the sum l is rough, as an approximate reciprocal's",
    )
