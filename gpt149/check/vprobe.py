"""The V-probe: slices of the identity as V show the attention matrix P of any opaque kernel.

What can be read off P helps where no known mistake matches: keys that are seen though hidden, or
never; rows that do not add up to 1; weights that grow too fast or too slowly with the scores; and
whether the fault lies in P at all, or in how V is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .judge import softmax, visible
from .observe import Bench, Observation

TINY = 1e-6  # of a weight: below it P is taken to be 0, and its logarithm not looked at
ROUGH = 1e-3  # a relative difference that rounding cannot make


def attention_matrix(o: Observation, bench: Bench) -> NDArray[np.float64]:
    """P (batch, n_head, n_q, n_kv) of the kernel on the observation's q and k."""
    case = o.case
    columns = []
    for start in range(0, case.n_kv, case.head_dim):
        v = np.zeros_like(o.v)
        width = min(case.head_dim, case.n_kv - start)
        v[:, :, start : start + width, :width] = np.eye(width, dtype=np.float32)
        columns.append(bench.observe(case, v=v).out[..., :width])
    return np.concatenate(columns, axis=3).astype(np.float64)


def read_off(o: Observation, bench: Bench) -> list[str]:
    """Sentences on what the attention matrix shows; empty if it is right."""
    case, mask = o.case, visible(o.case)
    p = attention_matrix(o, bench)
    if not np.isfinite(p).all():
        return ["its attention matrix has NaN or infinity"]
    group = case.n_head // case.n_kv_head
    k, v = (np.repeat(t.astype(np.float64), group, 1) for t in (o.k, o.v))
    scores = case.scale_value * (o.q.astype(np.float64) @ k.swapaxes(-1, -2))
    want = softmax(scores, mask)
    facts = []
    leaks = (p > ROUGH) & ~mask
    if leaks.any():
        _, _, i, j = np.argwhere(leaks)[0]
        facts.append(f"{leaks.sum()} hidden keys get weight, first key {j} for query {i}")
    unseen = np.flatnonzero((p < TINY).all((0, 1, 2)) & (want > ROUGH).any((0, 1, 2)))
    if len(unseen):
        facts.append(f"{len(unseen)} keys get no weight from any query, first key {unseen[0]}")
    sums = p.sum(-1)
    if np.abs(sums - 1).max() > ROUGH:
        facts.append(f"rows add up to {sums.min():.4g} to {sums.max():.4g} instead of 1")
    facts += _slopes(p, scores, mask)
    if not facts and np.abs(p - want).max() <= ROUGH:
        off = np.abs(o.out - p @ v).max()
        if off > ROUGH:
            facts.append(
                "its attention matrix is right, but the output is not that matrix times V "
                f"(off by {off:.2g}): the fault is on V's side"
            )
    return facts


def _slopes(
    p: NDArray[np.float64], scores: NDArray[np.float64], mask: NDArray[np.bool_]
) -> list[str]:
    """How log P grows with the scores, a head: 1 is right, another constant a wrong scale."""
    found = {}
    for h in range(p.shape[1]):
        pairs = [
            (scores[b, h, i, seen], np.log(p[b, h, i, seen]))
            for b in range(p.shape[0])
            for i in range(p.shape[2])
            if (seen := mask[i] & (p[b, h, i] > TINY)).sum() > 2
        ]
        if not pairs:
            continue
        x = np.concatenate([s - s.mean() for s, _ in pairs])
        y = np.concatenate([logp - logp.mean() for _, logp in pairs])
        slope = float(x @ y / (x @ x))
        fits = np.abs(y - slope * x).max() < 0.05
        if fits and abs(slope - 1) > 0.01:
            found[h] = slope
    if not found:
        return []
    heads = ", ".join(f"{slope:.3g} in head {h}" for h, slope in list(found.items())[:4])
    return [f"the scores are multiplied once more before the softmax: by {heads}"]
