"""Whose rows? A row of P is held against the scores of every query with every head's keys, and out
against P times every head's values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .head import FITS, LEAST
from .probe import Array, Place, Probe


def read_owners(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Whose queries, keys and values each head uses, where they are not its own."""
    case = probe.case
    if case.n_kv < 3:
        return
    if case.n_q == case.n_kv and _transposed(probe):
        yield (
            "scores_transposed",
            "Q and K are exchanged: the score of (i, j) is that of query j and key i",
        )
        return
    owners = _owners(probe)
    if owners is None:
        return
    other = next(((to, of) for to, of in owners.items() if of[1] != "K"), None)
    if other is not None:
        (_, h), (_, name, of) = other
        yield (
            "k_is_another",
            f"scores are products of Q and {name}: {name} stands in the place of K (head {h}: "
            f"that of batch {of[0]}, head {of[1]})",
        )
        return
    queries = {to: q for to, (q, _, _) in owners.items() if to != q}
    keys = {to: of for to, (_, _, of) in owners.items() if of != (to[0], int(probe.kv_head[to[1]]))}
    if queries and keys and all(keys.get(to) == _kv(probe, of) for to, of in queries.items()):
        yield (
            "scores_owner",
            _said("uses the scores", queries, probe, "head")
            + ": are all heads' scores kept in one place, and used after the last?",
        )
    elif queries or keys:
        if queries:
            yield "q_owner", _said("uses the queries", queries, probe, "head")
        if keys:
            yield "k_owner", _said("uses K", keys, probe, "key head")
    elif case.batch * case.n_head > 1:
        yield from _values(probe)


def _transposed(probe: Probe) -> bool:
    """Whether the weights of query i follow the scores of all queries with key i."""
    case, row = probe.case, probe.case.n_q - 1
    q, k = (t.astype(np.float64) for t in (probe.drawn[0][:1, :1], probe.drawn[1][:1, :1]))
    return _owner(probe.own[0, 0, row], k[:, :, row], q, case.scale_value) is not None


def _kv(probe: Probe, place: Place) -> Place:
    return place[0], int(probe.kv_head[place[1]])


def _owners(probe: Probe) -> dict[Place, tuple[Place, str, Place]] | None:
    """Of each (batch, head) whose q, and what in the place of K, and whose; None: not all known."""
    case, own, row = probe.case, probe.own, probe.case.n_q - 1
    q, k, v = (t.astype(np.float64) for t in probe.drawn)
    sources = [("K", k), ("V", v)]
    if case.n_q == case.n_kv:
        sources.insert(1, ("Q", q))
    owners: dict[Place, tuple[Place, str, Place]] = {}
    for b, h in np.ndindex(case.batch, case.n_head):
        for name, source in sources:
            found = _owner(own[b, h, row], q[:, :, row], source, case.scale_value)
            if found is not None:
                owners[b, h] = (found[0], name, found[1])
                break
        else:
            return None
    return owners


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
    rules |= {f"h // {g}": np.minimum(heads // g, case.n_kv_head - 1) for g in range(1, 17)}
    for name, rule in rules.items():
        if np.array_equal(mapping, rule):
            return f": {name}"
    return ""
