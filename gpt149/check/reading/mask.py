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
from .probe import Array, Illegible, Probe
from .words import ranges

Counts = NDArray[np.int64]  # (n_q, n_kv): how often a query counts a key

TINY = 1e-12
MANY = 140  # keys: with more, only usual sizes of tiles are tried
LARGE = (128, 256, 512)  # tiles that may hold all keys
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


def read_mask(probe: Probe, others: Sequence[Probe] = ()) -> Iterator[tuple[str, str]]:
    """Causes and sentences on what is seen that should not be, and the reverse.

    others: of more cases, which a rule must explain too, failing or not.
    """
    p = probe.flat
    if not p.any(-1).all():
        return  # a row of no weights at all is not a matter of who sees whom
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
            yield "mask_wrong", f"{said}{where}"
            return
        if said := _describe_extra(seen, probe, others):
            yield "sum_wrong", f"{said}{where}"
            return


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
        said = f"keys {ranges(keys)} count {counts.max()} times for the queries that see them"
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
    for b in _sizes(n_kv):
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
    rules = _rules(seen, case.n_q, case.n_kv, causal=case.causal)
    return [said for said, rule in rules if np.array_equal(rule, seen)]


def _rules(
    seen: NDArray[np.bool_], n_q: int, n_kv: int, *, causal: bool
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Rules that might say who sees whom, with the numbers in them taken from what is seen."""
    i, j = np.arange(n_q)[:, None], np.arange(n_kv)[None, :]
    off = n_kv - n_q
    p = i + off  # the query's own key
    until = p if causal else np.full_like(i, n_kv - 1)
    right = j <= until
    last = np.where(seen.any(1), n_kv - 1 - seen[:, ::-1].argmax(1), -1)
    first = np.where(seen.any(1), seen.argmax(1), n_kv)
    widest = int(seen.sum(1).max(initial=0))
    if causal:
        yield "the mask is missing: every query sees every key", np.ones_like(seen)
        yield (
            "the mask is aligned to the top left: query i sees key j <= i, not j <= i + n_kv - n_q",
            j <= i,
        )
        shift = int(np.median(last - p[:, 0]))
        if shift:
            more = "more" if shift > 0 else "fewer"
            yield (
                f"every query sees {abs(shift)} key{'s' if abs(shift) > 1 else ''} {more} than it "
                "should at the diagonal",
                j <= p + shift,
            )
        for b in _sizes(n_kv) if n_q > 1 else ():
            blocks = f"of {b}"
            yield (
                f"the mask is by blocks: a query sees the keys up to the end of its block {blocks}",
                j < (p // b + 1) * b,
            )
            yield (
                f"the mask is by blocks: all queries of a tile {blocks} see the keys of its last",
                j <= np.minimum((i // b + 1) * b - 1, n_q - 1) + off,
            )
            yield (
                f"the mask is by blocks: all queries of a tile {blocks} see the keys of its first",
                j <= i // b * b + off,
            )
            yield (
                f"the mask is by blocks: a query sees the keys before its own block {blocks}",
                j < p // b * b,
            )
            yield (
                f"the offset n_kv - n_q is rounded down to a multiple {blocks}",
                j <= i + off // b * b,
            )
            yield (
                f"the mask compares with the query's row in its tile {blocks}, not with the query",
                j <= i % b + off,
            )
            yield (
                f"the mask compares with the key's place in its tile {blocks}, not with the key",
                (j % b) <= p,
            )
            yield (
                f"the tile {blocks} keys on the diagonal is skipped",
                right & (j // b != p // b),
            )
            yield (
                f"the tile {blocks} keys on the diagonal is skipped, but for the first",
                right & ((j // b != p // b) | (p < b)),
            )
        for br in (8, 16, 32, 64) if n_q > 1 else ():
            for bc in (8, 16, 32, 64, 128):
                begins = (i // br * br + off) % bc == 0
                yield (
                    f"the tile of {bc} keys that begins where the tile of {br} queries does, "
                    "on the "
                    "diagonal, is skipped",
                    right & ~(begins & (j // bc * bc == i // br * br + off) & (j >= bc)),
                )
                before = (i // br * br + off + 1) // bc * bc
                yield (
                    f"the tile of {bc} keys that the mask goes through, on the diagonal, is left "
                    f"out for tiles of {br} queries, unless it is the first",
                    np.where(before > 0, j < before, right),
                )
        yield "its own key, on the diagonal, is skipped", right & (j != p)
    back = int(np.where(right & ~seen, until - j, n_kv).min())
    for m, r in ((every, r) for every in (2, 3, 4, 8) for r in range(every)):
        yield (
            f"of the keys {back} and more back, every {m}th (index % {m} = {r}) does not count",
            right & ((until - j < back) | (j % m != r)),
        )
    if 0 < widest < n_kv:
        yield (
            f"a window: a query sees its last {widest} keys only",
            right & (j > until - widest),
        )
        yield f"only the first {widest} keys are ever seen", right & (j < widest)
    lowest = int(first.min(initial=n_kv))
    if lowest:
        keys = "key is" if lowest == 1 else f"{lowest} keys are"
        yield f"the first {keys} never seen", right & (j >= lowest)
    never = np.flatnonzero(~seen.any(0))
    if len(never):
        yield _never(never, n_kv), right & ~np.isin(j, never)
    for b in _sizes(n_kv):
        n_seen = until + 1
        parts = f", or {b} equal parts," if b < 17 else ""
        for whole in (n_seen // b * b, np.where(n_seen < b, n_seen, n_seen // b * b)):
            yield (
                f"the remainder behind whole tiles of {b} keys{parts} is dropped: a query sees "
                f"the first n // {b} * {b} of the n keys that it should",
                j < whole,
            )
        yield (
            f"the last key of each query's row is dropped where tiles of {b} do not divide it",
            (right & ((j != until) | (n_seen % b == 0))),
        )
        yield (
            f"a last key that is alone in its tile of {b} is dropped",
            right & ((j != until) | (n_seen % b != 1)),
        )
        for part in (1, b // 2):
            yield (
                f"of every tile of {b} keys the last {part} {'is' if part == 1 else 'are'} dropped",
                right & (j % b < b - part),
            )


def _never(keys: NDArray[np.intp], n_kv: int) -> str:
    said = f"keys {ranges(keys)} of {n_kv} are never seen"
    return said if len(keys) > 1 else f"key {keys[0]} of {n_kv} is never seen"


def _sizes(n: int) -> Iterator[int]:
    """Of tiles: usual ones first, then any."""
    usual = [b for b in (8, 16, 32, 64, 128, 256, 512) if b < n]
    yield from usual
    if n < MANY:
        yield from (b for b in range(2, n) if b not in usual)


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
    for said, rule in _sums(n_seen, case, extra[rows]):
        if np.allclose(extra[rows], rule[rows], atol=ROUGH * case.n_kv):
            yield said


def _sums(n: Counts, case: Case, extra: Array) -> Iterator[tuple[str, NDArray[np.number]]]:
    """Rules for what a sum has besides its n keys, with the number in them taken from extra."""
    for b in _sizes(case.n_kv + 1):
        yield (
            f"where all scores are equal, the sum l holds the first {b} keys alone: later tiles "
            "do not add to it, as if it grew only where the maximum rises",
            np.minimum(n, b) - n,
        )
    yield (
        "the sum l is not reset from row to row: each row's still holds those of the rows before",
        np.cumsum(n) - n,
    )
    if case.causal:
        yield "the sum l counts all n_kv keys, those that are hidden, too", case.n_kv - n
    e = round(float(np.median(extra)))
    if e:
        times = "once" if abs(e) == 1 else f"{abs(e)} times"
        starts = f", as if it began at {e} and not at 0" if e > 0 else ""
        yield (
            f"the sum l has {times} exp(0) too {'much' if e > 0 else 'little'} in every row"
            f"{starts}: it counts for nobody's value",
            np.full_like(n, e),
        )
    padded = ((n, "its keys"), (np.full_like(n, case.n_kv), "n_kv"))
    given = [("bc", case.bc)] if case.bc else []
    for name, b in [*given, *((f"{b}", b) for b in (*_sizes(case.n_kv + 1), *LARGE))]:
        for keys, whose in padded:
            yield (
                f"the sum l also counts the padding that fills {whose} up to whole tiles of "
                f"{name}: exp(0) for each missing key",
                (-keys) % b,
            )
