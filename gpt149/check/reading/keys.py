"""Which keys of a row are treated otherwise? Rules for sets of (query, key)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from .head import FITS, LEAST_KEYS, Head, Said
from .scores import describe_dims

Mask = NDArray[np.bool_]
SIZES = (4, 8, 16, 32, 64, 128)
MOST_EVEN = 0.1  # of the keys that are treated otherwise: so many may seem right by chance
MORE_EQUATIONS = 16  # than unknowns


def odd_keys(one: Head) -> Said | None:
    """Keys whose scores are made otherwise than those of others in their rows, which are right."""
    i, j = np.arange(one.probe.case.n_q)[:, None], np.arange(one.probe.case.n_kv)
    for text, rule in _rules(j, _last(i, one.probe.case), len(j)):
        right = one.usable & ~rule
        n = right.sum(1, keepdims=True)
        told = one.usable & (n > 1)
        off = one.rest - np.where(right, one.rest, 0).sum(1, keepdims=True) / np.maximum(n, 1)
        wrong = np.abs(off) >= FITS
        odd = told & rule
        if (told & right).sum() < LEAST_KEYS or (told & right & wrong).any():
            continue
        if odd.any() and wrong[odd].mean() > 1 - MOST_EVEN:
            return _made(one, odd, off[odd], text)
    return None


def _made(one: Head, odd: Mask, off: NDArray[np.float64], keys: str) -> Said:
    """What the scores of some keys are made of. off: log P less the right scores, of these."""
    case = one.probe.case
    q, k = (t[one.b].astype(np.float64) for t in one.probe.drawn[:2])
    queries, some = np.nonzero(odd)
    terms = case.scale_value * q[one.h][queries] * k[one.probe.kv_head[one.h]][some]
    if len(off) >= case.head_dim + MORE_EQUATIONS:
        more, *_ = np.linalg.lstsq(terms, off, rcond=None)
        if np.abs(terms @ more - off).max() < max(FITS, 1e-3 * np.abs(off).max()):
            said = describe_dims(1 + more, case.head_dim)
            if said:
                return said[0], f"{said[1]} of {keys}"
    if np.ptp(off) < FITS:
        times = f"{np.exp(off.mean()):.4g} times what they should"
        return "keys_weighed", f"{keys} weigh {times}, beside others of their rows"
    n = int(np.abs(off).argmax())
    return (
        "keys_scored",
        f"the scores of {keys} are made otherwise than others', which are right: for query "
        f"{queries[n]} and key {some[n]} it is off by {off[n]:.3g}",
    )


def which(marked: Mask, known: Mask, case: Case) -> str:
    """The keys that are marked, in words; empty if no rule gives them.

    marked, known: (batch, n_head, n_q, n_kv); what is not known fits every rule.
    """
    i, j = np.arange(case.n_q)[:, None], np.arange(case.n_kv)
    for text, rule in _rules(j, _last(i, case), case.n_kv):
        if (rule == marked)[known].all():
            return text
    return ""


def _last(i: NDArray[np.int64], case: Case) -> NDArray[np.int64]:
    """The last key that a query sees."""
    return i + case.n_kv - case.n_q if case.causal else np.full_like(i, case.n_kv - 1)


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
