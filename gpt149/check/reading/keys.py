"""Which keys of a row are treated otherwise? Rules for sets of (query, key)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..cases import Case

Mask = NDArray[np.bool_]
SIZES = (4, 8, 16, 32, 64, 128)


def which(marked: Mask, known: Mask, case: Case) -> str:
    """The keys that are marked, in words; empty if no rule gives them.

    marked, known: (batch, n_head, n_q, n_kv); what is not known fits every rule.
    """
    i, j = np.arange(case.n_q)[:, None], np.arange(case.n_kv)
    p = i + case.n_kv - case.n_q if case.causal else np.full_like(i, case.n_kv - 1)
    for text, rule in _rules(j, p, case.n_kv):
        if (rule == marked)[known].all():
            return text
    return ""


def _rules(j: NDArray[np.int64], p: NDArray[np.int64], n: int) -> Iterator[tuple[str, Mask]]:
    """j: keys. p: (n_q, 1), the last that each query sees."""
    yield "all keys", np.ones((len(p), n), bool)
    yield "a query's own key", j == p
    yield "all keys but a query's own", j != p
    for m in SIZES:
        row, end = (p + 1) // m * m, n // m * m
        yield f"the keys behind whole vectors of {m} of what a query sees", j >= row
        yield f"the keys in whole vectors of {m} of what a query sees", j < row
        yield f"the keys behind whole vectors of {m} of n_kv", (j >= end) & (p >= 0)
        yield f"the keys in whole vectors of {m} of n_kv", (j < end) & (p >= 0)
        yield f"the keys of a query's last tile of {m}", j // m == p // m
        yield f"all keys but those of a query's last tile of {m}", j // m != p // m
        yield f"the first {m} keys", (j < m) & (p >= 0)
        yield f"all keys but the first {m}", (j >= m) & (p >= 0)
        for r in range(m if m < 16 else 0):
            yield f"the keys with index % {m} = {r}", (j % m == r) & (p >= 0)
            yield f"all keys but those with index % {m} = {r}", (j % m != r) & (p >= 0)
