"""Where in out, and in which calls? Sets of wrong values as products, and a predicate on the call
that parts those that fail from those that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..observe import Observation
from .words import ranges

Predicate = Callable[[Case], bool]
Feature = Callable[[Case], int]
LEAST_PASSING = 3  # cases that a predicate must set apart, to mean something


def when(observations: Sequence[Observation]) -> tuple[str, Predicate] | None:
    """The simplest predicate on the call that holds exactly where the kernel fails."""
    failing = [o.case for o in observations if not o.passed]
    passing = [o.case for o in observations if o.passed]
    if not failing or len(passing) < LEAST_PASSING:
        return None
    for text, holds in _predicates([*failing, *passing]):
        if all(map(holds, failing)) and not any(map(holds, passing)):
            return text, holds
    return None


def _predicates(cases: Sequence[Case]) -> Iterator[tuple[str, Predicate]]:
    yield "n_q = 1 (decode)", lambda c: c.n_q == 1
    yield "n_q < n_kv", lambda c: c.n_q < c.n_kv
    yield "1 < n_q < n_kv", lambda c: 1 < c.n_q < c.n_kv
    yield "n_q = n_kv", lambda c: c.n_q == c.n_kv
    yield "calls are causal", lambda c: c.causal
    yield "calls are not causal", lambda c: not c.causal
    yield "head groups are larger than 1", lambda c: c.n_head != c.n_kv_head
    yield "keys and values are bfloat16", lambda c: c.half_kv
    yield "rows are not contiguous", lambda c: c.layout != "contiguous"
    yield "logits are of some hundreds", lambda c: c.inputs == "large"
    yield "n_threads > 1", lambda c: c.n_threads > 1
    yield "br or bc is given", lambda c: bool(c.br or c.bc)
    features: dict[str, Feature] = {
        "batch": lambda c: c.batch,
        "n_head": lambda c: c.n_head,
        "n_head / n_kv_head": lambda c: c.n_head // c.n_kv_head,
        "head_dim": lambda c: c.head_dim,
        "n_q": lambda c: c.n_q,
        "n_kv": lambda c: c.n_kv,
        "n_threads": lambda c: c.n_threads,
        "batch * n_head": lambda c: c.batch * c.n_head,
    }
    for name, of in features.items():
        values = sorted({of(c) for c in cases})
        for low, high in pairwise(values):
            at = _round(low, high)
            yield f"{name} > {at}", _above(of, at)
        yield f"{name} = {values[0]}", _equal(of, values[0])
    for name, of in features.items():
        for m in (2, 4, 8, 16, 32, 64, 128):
            yield f"{name} is no multiple of {m}", _uneven(of, m)
    yield (
        "the rows (batch * n_head * n_q) are no multiple of n_threads",
        lambda c: c.batch * c.n_head * c.n_q % c.n_threads != 0,
    )
    yield (
        "batch * n_head is no multiple of n_threads",
        lambda c: c.batch * c.n_head % c.n_threads != 0,
    )
    conditions: tuple[tuple[str, Predicate], ...] = (
        ("n_q = 1", lambda c: c.n_q == 1),
        ("n_q < n_kv", lambda c: c.n_q < c.n_kv),
        ("head groups are larger than 1", lambda c: c.n_head != c.n_kv_head),
        ("calls are causal", lambda c: c.causal),
        ("keys and values are bfloat16", lambda c: c.half_kv),
    )
    for text, holds in conditions:
        yield f"{text} and n_threads > 1", _both(holds, lambda c: c.n_threads > 1)
        for name, of in features.items():
            values = sorted({of(c) for c in cases if holds(c)})
            for low, high in pairwise(values):
                at = _round(low, high)
                yield f"{text} and {name} > {at}", _both(holds, _above(of, at))
            for m in (2, 4, 8, 16, 32, 64):
                yield f"{text} and {name} is no multiple of {m}", _both(holds, _uneven(of, m))


def _both(a: Predicate, b: Predicate) -> Predicate:
    return lambda c: a(c) and b(c)


def _above(of: Feature, at: int) -> Predicate:
    return lambda c: of(c) > at


def _equal(of: Feature, value: int) -> Predicate:
    return lambda c: of(c) == value


def _uneven(of: Feature, m: int) -> Predicate:
    return lambda c: of(c) % m != 0


def _round(low: int, high: int) -> int:
    """A threshold from low on and below high: a power of two if one lies there."""
    power = 1
    while power * 2 < high:
        power *= 2
    return power if power >= low else low


def where(wrong: NDArray[np.bool_]) -> str:
    """Which values (batch, n_head, n_q, head_dim) are wrong, as a product of sets, in words."""
    if not wrong.any() or wrong.all():
        return ""
    axes = [np.flatnonzero(wrong.any(tuple(set(range(4)) - {a}))) for a in range(4)]
    size = int(np.prod([len(a) for a in axes]))
    share = wrong.sum() / size
    parts = []
    for name, found, n in zip(("batch", "head", "query", "dim"), axes, wrong.shape, strict=True):
        if len(found) < n:
            parts.append(f"{_plural(name, len(found))} {_set(found, n)}")
    if not parts:
        return ""
    exactly = "exactly" if share > 0.98 else "only"
    return f"{exactly} {', '.join(parts)}"


def _plural(name: str, n: int) -> str:
    return name if n == 1 else {"batch": "batches", "query": "queries"}.get(name, f"{name}s")


def _set(found: NDArray[np.intp], n: int) -> str:
    for m in (2, 3, 4, 8, 16):
        for r in range(m):
            if n > 2 * m and np.array_equal(found, np.arange(r, n, m)):
                return f"{r}, {r + m}, ... (index % {m} = {r})"
    return ranges(found)
