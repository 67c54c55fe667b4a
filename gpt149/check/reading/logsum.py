"""What is an lse that no known mistake gives? Another row's, or off by the same everywhere."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .where import where

Array = NDArray[np.float64]
MOST_COUNTED = 64  # of a sum that is too large by a whole factor
FEWEST = 4  # rows that another's place is read from


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
