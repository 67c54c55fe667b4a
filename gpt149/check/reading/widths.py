"""Where rows of V are longer or shorter than those of K: which of its dims comes out in which?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .probe import Probe
from .words import ranges

NEAR = 0.02  # of a dim's number
MOST_DIMS = 250  # numbers that bfloat16 tells apart
Said = tuple[str, str]


def read_widths(probe: Probe) -> Iterator[Said]:
    """All products are 0, and each dim of V holds its own number."""
    case, own = probe.case, probe.drawn
    if case.width > MOST_DIMS:
        return
    q, v = np.zeros_like(own[0]), np.ones_like(own[2])
    total = np.median(probe.out(q=q, v=v), axis=-1, keepdims=True)
    v[:] = np.arange(1, case.width + 1)
    seen = total[..., 0] > 0
    found = (probe.out(q=q, v=v) / np.where(total > 0, total, 1))[seen]
    if not found.size:
        return
    dims = np.median(found, axis=0)
    if np.abs(found - dims).max() > NEAR * case.width:
        return
    x = np.arange(case.width)
    missing = dims == 0
    whose = np.rint(dims - 1).astype(int)
    moved = ~missing & (np.abs(dims - 1 - x) > 0.5)
    width = f"of {case.width} (head_dim_v; head_dim is {case.head_dim})"
    if missing.any():
        yield "head_dim_v_wrong", f"dims {ranges(x[missing])} {width} of out are zeros"
    elif moved.any():
        at = int(x[moved][0])
        yield (
            "head_dim_v_wrong",
            f"dims {ranges(x[moved])} {width} of out do not hold those of v: dim {at} has dim "
            f"{whose[at]}",
        )
