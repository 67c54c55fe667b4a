"""Sets of indices, numbers and heads, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHOWN = 4
NO_MATTER = "Precision is not the matter: double would change nothing"
# Factors that have a name.
CONSTANTS = {
    "log2(e)": math.log2(math.e),
    "ln(2)": math.log(2),
    "log10(e)": math.log10(math.e),
    "ln(10)": math.log(10),
    "1/2": 0.5,
    "2": 2.0,
}


def ranges(indices: Sequence[int] | NDArray[np.integer]) -> str:
    """`3, 8-15, 20`, of sorted whole numbers; every so many, if it is that."""
    found = list(map(int, indices))
    if not found:
        return "none"
    steps = set(np.diff(found).tolist())
    if len(found) > 2 and len(steps) == 1 and (step := steps.pop()) > 1:
        return f"{found[0]}, {found[1]}, {found[2]}, ... (in steps of {step})"
    parts = np.split(np.array(found), np.flatnonzero(np.diff(found) > 1) + 1)
    texts = [str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts[:SHOWN]]
    return ", ".join(texts) + (", ..." if len(parts) > SHOWN else "")


def factor(value: float, head_dim: int) -> str:
    """A factor, and where it may come from."""
    known = {
        **CONSTANTS,
        "sqrt(head_dim)": head_dim**0.5,
        "1 / sqrt(head_dim)": head_dim**-0.5,
        "head_dim": float(head_dim),
        "1 / head_dim": 1 / head_dim,
    }
    name, near = min(known.items(), key=lambda item: abs(math.log(item[1] / abs(value) or 1)))
    says = f" ({name})" if abs(near / abs(value) - 1) < 2e-4 else ""
    close = abs(near / abs(value) - 1)
    if 2e-4 <= close < 5e-3:
        says = f" (near {name})"
    return f"{value:.5g}{says}"
