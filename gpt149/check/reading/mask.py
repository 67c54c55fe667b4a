"""Which keys does each query see, and what is in the sum besides?

With all scores 0 every key that is seen has the same weight, so the attention matrix is the mask
itself, and what a row's weights lack of 1 is what else is in its sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..judge import visible
from .probe import Array, Illegible, Probe
from .rules import Counts, masks, sizes, sums
from .where import where
from .words import ranges

TINY = 1e-12
ROUGH = 1e-3  # relative; no rounding is so large


@dataclass(frozen=True)
class Seen:
    """What flat weights show of a head: counts, and extra, what the sum has besides, in keys.

    whole: whether weights are whole multiples of each other, as they must be.
    """

    counts: Counts
    extra: Array  # (n_q,)
    whole: bool

    @staticmethod
    def of(p: Array) -> Seen:
        """From the weights (n_q, n_kv) of a head."""
        least = np.where(p > TINY, p, np.inf).min(-1, keepdims=True)
        unit = np.where(np.isfinite(least), least, 1.0)
        ratio = p / unit
        counts = np.rint(ratio).astype(np.int64)
        whole = bool((np.abs(ratio - counts) <= ROUGH * np.maximum(1, counts)).all())
        return Seen(counts, 1 / unit[:, 0] - counts.sum(-1), whole)


def read_dims(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Which dims go from V to out otherwise than most do."""
    case = probe.case
    odd = np.setdiff1d(np.arange(case.head_dim), probe.dims)
    if not probe.by_dim.any():
        yield "nothing_of_v", f"nothing of V comes out (zeros), of any of its {case.head_dim} dims"
        return
    if not len(odd) or len(odd) > 0.5 * case.head_dim:
        return
    values = probe.by_dim[..., odd]
    zeros = " (zeros)" if not values.any() else ""
    yield (
        "dims_of_v",
        f"dims {ranges(odd)} of {case.head_dim} of out do not come from V as the others "
        f"do{zeros}: the "
        "product P V leaves them out, or reads or stores them elsewhere",
    )


def read_zeros(probe: Probe, _others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Rows in which nothing is, and no mask explains it."""
    empty = ~probe.by_dim.any(3, keepdims=True)
    if empty.any() and not empty.all():
        yield "rows_of_zeros", f"rows of out are zeros: {where(np.asarray(empty))}"


def read_mask(probe: Probe, others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Causes and sentences on what is seen that should not be, and the reverse.

    others: of more cases, which a rule must explain too, failing or not.
    """
    p = probe.flat
    if not p.any(-1).all() and not _fitting(Seen.of(p[0, 0]).counts > 0, probe):
        return  # a row of no weights at all may be no matter of who sees whom
    if ((p <= TINY) & probe.mask & (probe.own > ROUGH)).any():
        return  # nor what depends on the scores
    v = probe.drawn[2][:, probe.kv_head].astype(np.float64)
    off = np.abs(np.einsum("bhqk,bhkd->bhqd", p, v) - probe.out(q=np.zeros_like(probe.drawn[0])))
    if off.max() > ROUGH * np.abs(v).max():
        return  # what looks like the mask does not explain the output: the fault is on V's side
    heads = [(b, h) for b in range(p.shape[0]) for h in range(p.shape[1])]
    for b, h in heads:
        seen = Seen.of(p[b, h])
        if not seen.whole:
            continue
        where = _where(p, probe, b, h)
        if said := _describe_counts(seen.counts, probe, others):
            yield "mask_wrong", f"{said}{_of_values(seen, probe)}{where}"
            return
        # Rounded to bfloat16, weights add up to 1 roughly.
        if not probe.case.half and (said := _describe_extra(seen, probe, others)):
            yield "sum_wrong", f"{said}{where}"
            return


def _of_values(seen: Seen, probe: Probe) -> str:
    """Whether keys that do not come out are in the sum."""
    lost = (probe.mask & (seen.counts == 0)).sum(-1)
    near = ROUGH * probe.case.n_kv
    if not lost.any() or np.abs(seen.extra - lost)[seen.counts.any(-1)].max() > near:
        return ""
    return "; the sum l has them all: it is their values that the product P V leaves out, or loses"


def _where(p: Array, probe: Probe, b: int, h: int) -> str:
    """Where not all heads are like the one at hand."""
    same = np.abs(p - p[b, h]).max((2, 3)) < TINY + ROUGH / p.shape[3]
    if same.all():
        return ""
    return f", in {int(same.sum())} of {same.size} heads (first: batch {b}, head {h})"


def _describe_counts(counts: Counts, probe: Probe, others: Sequence[Probe]) -> str:
    right = probe.mask
    if np.array_equal(counts, right):
        return ""
    case = probe.case
    twice = counts > 1
    if np.array_equal(counts > 0, right) and twice.any():
        keys = np.flatnonzero(twice.any(0))
        n_seen = np.broadcast_to(right.sum(1)[:, None], counts.shape)
        if (counts == n_seen)[:, keys].all() and case.n_kv > 2:
            return f"the weights of keys {ranges(keys)} are not divided by the sum l, as others are"
        times = "twice" if counts.max() == 2 else f"{counts.max()} times"
        said = f"keys {ranges(keys)} count {times} for the queries that see them"
        return said + _stale(keys, case.n_kv)
    fitting = _fitting(counts > 0, probe)
    for other in others:
        try:
            also = _fitting(Seen.of(other.flat[0, 0]).counts > 0, other)
        except Illegible:
            continue
        fitting = [said for said in fitting if said in also] or fitting
    if fitting:
        return fitting[0]
    i = int(np.flatnonzero((counts != right).any(1))[0])
    sees, should = np.flatnonzero(counts[i]), np.flatnonzero(right[i])
    n_rows = int((counts != right).any(1).sum())
    return (
        f"query {i} sees the keys {ranges(sees)}, and should see {ranges(should)} "
        f"({n_rows} of {case.n_q} queries see others than they should)"
    )


def _stale(keys: NDArray[np.intp], n_kv: int) -> str:
    """Why these count again, if they are what the tile before the last had behind its tail."""
    for b in sizes(n_kv):
        full, tail = n_kv // b * b, n_kv % b
        if tail and np.array_equal(keys, np.arange(full - b + tail, full)):
            return (
                f": behind its tail the last, partial tile of {b} still holds the weights and the "
                "values of the tile before, and the product P V takes them"
            )
    return ""


def _fitting(seen: NDArray[np.bool_], probe: Probe) -> list[str]:
    """The rules that say exactly who sees whom here."""
    case = probe.case
    right = visible(case)
    # A row of which a rule leaves nothing may be spared.
    return [
        said
        for said, rule in masks(seen, case)
        if np.array_equal(np.where(rule.any(1, keepdims=True), rule, right), seen)
        or np.array_equal(rule, seen)
    ]


def _describe_extra(seen: Seen, probe: Probe, others: Sequence[Probe]) -> str:
    """What the sum has besides the keys that are seen."""
    case, extra = probe.case, seen.extra
    rows = seen.counts.sum(-1) > 0
    if not rows.any() or np.abs(extra[rows]).max() < ROUGH * case.n_kv:
        return ""
    fitting = list(_fitting_extra(seen, case))
    for other in others:
        try:
            also = Seen.of(other.flat[0, 0])
        except Illegible:
            continue
        if not also.whole or np.abs(also.extra).max() < ROUGH * other.case.n_kv:
            continue  # where nothing is wrong, every rule may hold
        said = list(_fitting_extra(also, other.case))
        fitting = [rule for rule in fitting if rule in said] or fitting
    if fitting:
        return fitting[0]
    n_seen = seen.counts.sum(-1)
    i = int(np.flatnonzero(rows & (np.abs(extra) >= ROUGH * case.n_kv))[0])
    return (
        f"the weights do not add up to 1: in query {i}, with all scores 0, to "
        f"{n_seen[i] / (n_seen[i] + extra[i]):.4g}, as if the sum l held "
        f"{n_seen[i] + extra[i]:.4g} keys instead of {n_seen[i]}"
    )


def _fitting_extra(seen: Seen, case: Case) -> Iterator[str]:
    """The rules that say exactly what is in each row's sum."""
    n_seen, extra = seen.counts.sum(-1), seen.extra
    rows = n_seen > 0
    for said, rule in sums(n_seen, case, extra[rows]):
        if np.allclose(extra[rows], rule[rows], atol=ROUGH * case.n_kv):
            yield said
