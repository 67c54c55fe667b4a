"""Whose rows? A row of P is held against the scores of every query with every head's keys, and out
against P times every head's values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .probe import Array, Probe
from .scores import FITS, LEAST

Place = tuple[int, int]  # (batch, head)


def read_owners(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Whose queries, keys and values each head uses, where they are not its own."""
    case = probe.case
    if case.batch * case.n_head == 1 or case.n_kv < 3:
        return
    own = probe.own
    q, k = (t.astype(np.float64) for t in probe.drawn[:2])
    queries: dict[Place, Place] = {}
    keys: dict[Place, Place] = {}
    row = case.n_q - 1
    for b in range(case.batch):
        for h in range(case.n_head):
            found = _owner(own[b, h, row], q[:, :, row], k, case.scale_value)
            if found is None:
                return
            right = (b, int(probe.kv_head[h]))
            if found[1] != right or found[0] != (b, h):
                queries[b, h], keys[b, h] = found
    if queries:
        wrong_q = {to: of for to, of in queries.items() if to != of}
        wrong_k = {to: of for to, of in keys.items() if of != (to[0], int(probe.kv_head[to[1]]))}
        if wrong_q:
            yield "q_owner", _said("uses the queries", wrong_q, probe, "head")
        if wrong_k:
            yield "k_owner", _said("uses K", wrong_k, probe, "key head")
        return
    yield from _values(probe)


def _owner(p: Array, q: Array, k: Array, scale: float) -> tuple[Place, Place] | None:
    """The query and the keys, by (batch, head), whose scores log P follows; None if none do."""
    usable = p > LEAST
    if usable.sum() < 3:
        return None
    logp = np.log(p[usable])
    logp -= logp.mean()
    scores = scale * np.einsum("abd,cekd->abcek", q, k)[..., usable]
    scores -= scores.mean(-1, keepdims=True)
    off = np.abs(scores - logp).max(-1)
    at = np.unravel_index(off.argmin(), off.shape)
    if off[at] > FITS + 1e-3 * np.abs(logp).max():
        return None
    a, b, c, e = map(int, at)
    return (a, b), (c, e)


def _values(probe: Probe) -> Iterator[tuple[str, str]]:
    case, p = probe.case, probe.own
    out, v = probe.out(), probe.drawn[2].astype(np.float64)
    wrong: dict[Place, Place] = {}
    for b in range(case.batch):
        for h in range(case.n_head):
            off = np.abs(np.einsum("qk,abkd->abqd", p[b, h], v) - out[b, h]).max((2, 3))
            at = np.unravel_index(off.argmin(), off.shape)
            if off[at] > FITS:
                return
            of = (int(at[0]), int(at[1]))
            if of != (b, int(probe.kv_head[h])):
                wrong[b, h] = of
    if wrong:
        yield "v_owner", _said("uses V", wrong, probe, "key head")


def _said(verb: str, wrong: dict[Place, Place], probe: Probe, kind: str) -> str:
    case = probe.case
    (b, h), (b2, h2) = next(iter(wrong.items()))
    to, of = f"head {h}", f"{kind} {h2}"
    if b2 != b:
        to, of = f"batch {b}, {to}", f"batch {b2}, {of}"
    rule = _rule(wrong, probe, kind)
    n = f"{len(wrong)} of {case.batch * case.n_head} heads"
    return f"{to} {verb} of {of}{rule} ({n} do not use their own)"


def _rule(wrong: dict[Place, Place], probe: Probe, kind: str) -> str:
    """The mapping, where one rule gives it for all heads."""
    case = probe.case
    heads = np.arange(case.n_head)
    group = case.n_head // case.n_kv_head
    right = heads if kind == "head" else heads // group
    mapping: NDArray[np.intp] = right.copy()
    for (_, h), (_, of) in wrong.items():
        mapping[h] = of
    if any(b2 != b for (b, _), (b2, _) in wrong.items()):
        batches = {b2 for _, (b2, _) in wrong.items()}
        return ": the batch is ignored" if batches == {0} else ""
    rules = {
        "the head is ignored": np.zeros_like(heads),
        "h % n_kv_head": heads % max(1, case.n_kv_head),
        "min(h, n_kv_head - 1)": np.minimum(heads, case.n_kv_head - 1),
        "the first head of its group": heads // group * group,
        "the next head": np.roll(heads, -1),
        "the head before": np.roll(heads, 1),
        "the heads in reverse": heads[::-1],
    }
    for name, rule in rules.items():
        if np.array_equal(mapping, rule):
            return f": {name}"
    return ""
