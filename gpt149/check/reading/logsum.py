"""What is an lse that no known mistake gives? Another row's, off by the same everywhere, or one
that counts keys as it should not: of a row in which one key's score is far above all others,
exp(lse) tells how many keys count as if they were as high.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..observe import Bench
from .where import where
from .words import ranges

Array = NDArray[np.float64]
MOST_COUNTED = 64  # of a sum that is too large by a whole factor
HIGH = 12.0  # a score: of one key among many, exp of it is known to a tenth in float32
MOST_KEYS = 150
FEWEST = 4  # rows that another's place is read from


def read_counts(bench: Bench, case: Case) -> str:
    """Which keys count in the sum of lse, and for how much, in words; empty if all is right.

    Asked of the last query, which sees all keys if there is no variant but lse.
    """
    if case.n_kv > MOST_KEYS or case.layout == "far":
        return ""
    case = replace(case, calls="once")
    q, k, v = (np.zeros_like(t) for t in case.draw())
    q[..., 0] = HIGH / case.scale_value
    more = np.full(case.n_kv, np.nan)
    for j in range(case.n_kv):
        k[...] = 0
        k[:, :, j, 0] = 1
        lse = bench.ask_lse(case, q, k, v)
        if lse is None or not lse[0, 0, -1] < 2 * HIGH:  # or it is NaN
            return ""
        more[j] = np.exp(float(lse[0, 0, -1]) - HIGH) - 1
    lost, counted = more < -0.5, np.rint(more).astype(int)
    if lost.any():
        n = f"{int(lost.sum())} of {case.n_kv}"
        return f"keys {ranges(np.flatnonzero(lost))} do not count in its sum ({n})"
    if not counted.any() or np.abs(more - counted).max() > 0.1:
        return ""
    j = int(np.flatnonzero(counted)[0])
    tile = case.n_kv - counted[j]
    return (
        f"where the score of key {j} is far above all others, {counted[j]} of the {case.n_kv} keys "
        f"count as if theirs were as high, and {tile} do not: sums of parts of {tile} keys are "
        "added up that are not brought to the row's maximum"
    )


def read_lse(got: Array, want: Array, allowed: Array) -> str:
    """Of (batch, n_head, n_q), in words; empty if nothing is read. allowed: what is still right."""
    wrong = ~((np.abs(got - want) <= allowed) | (got == want))
    which = where(wrong[..., None])
    places = f" ({which})" if which else ""
    off = (got - want)[wrong & np.isfinite(want)]
    if off.size and np.isfinite(off).all():
        by, near = float(np.median(off)), float(4 * allowed[wrong].max())
        if off.size > 1 and np.abs(off - by).max() <= near:
            return f"each is {abs(by):.5g} too {'large' if by > 0 else 'small'}{_log(by)}{places}"
        scale = got[wrong] / np.where(want[wrong] == 0, np.nan, want[wrong])
        times = float(np.nanmedian(scale))
        fits = np.abs(got[wrong] - times * want[wrong]) <= near * max(1, abs(times))
        if off.size > 1 and fits.all():
            return f"each is {times:.5g} times what it should be{places}"
        if found := _of_another(got, want, allowed, wrong):
            return f"{found}{places}"
    return which and f"wrong are {which}"


def _log(by: float) -> str:
    """Of which number it is the logarithm: then the sum counts so many times."""
    for n in range(2, MOST_COUNTED):
        if abs(abs(by) - math.log(n)) < 1e-3:
            return f", log({n}): the sum is {n} times too {'large' if by > 0 else 'small'}"
    return ""


def _of_another(got: Array, want: Array, allowed: Array, wrong: NDArray[np.bool_]) -> str:
    """Whose lse stands in a row's place."""
    at = np.argwhere(wrong)
    near = np.abs(got[wrong][:, None] - want.ravel()) <= 2 * allowed[wrong][:, None]
    if len(at) < FEWEST or not (near.sum(1) == 1).all():
        return ""
    (b, h, i), of = at[0], np.unravel_index(int(near[0].argmax()), want.shape)
    return (
        f"the lse of other rows stands there: (batch {b}, head {h}, query {i}) has that of (batch "
        f"{of[0]}, head {of[1]}, query {of[2]})"
    )
