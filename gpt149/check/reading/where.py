"""Where in out, and in which calls? Sets of wrong values as products, and a predicate on the call
that parts those that fail from those that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..observe import Observation
from .words import ranges

Predicate = Callable[[Case], bool]
Size = Callable[[Case], int]
LEAST_PASSING = 3  # cases that a predicate must set apart, to mean something
FEW = 0.3  # of the passing calls
SIZES: dict[str, Size] = {
    "batch": lambda c: c.batch,
    "n_head": lambda c: c.n_head,
    "n_head / n_kv_head": lambda c: c.n_head // c.n_kv_head,
    "head_dim": lambda c: c.head_dim,
    "n_q": lambda c: c.n_q,
    "n_kv": lambda c: c.n_kv,
    "n_kv - n_q": lambda c: c.n_kv - c.n_q,
    "n_threads": lambda c: c.n_threads,
    "batch * n_head": lambda c: c.batch * c.n_head,
}


def when(observations: Sequence[Observation]) -> str:
    """What holds of exactly the calls that fail, in words: the simplest; empty if nothing does."""
    failing, passing = _parted(observations)
    if not failing or len(passing) < LEAST_PASSING:
        return ""
    cases = [*failing, *passing]
    fails = np.arange(len(cases)) < len(failing)
    necessary: list[tuple[str, NDArray[np.bool_]]] = []
    for text, holds in _predicates(cases):
        held = np.array([holds(c) for c in cases])
        if np.array_equal(held, fails):
            return text
        if held[fails].all():
            necessary.append((text, held))
    properties = {text for text, _ in _properties()}
    for (text, a), (more, b) in combinations(necessary, 2):
        # Each part must be needed, or it says what a case or two happen to have.
        needed = min((a & ~b).sum(), (b & ~a).sum()) >= LEAST_PASSING
        if text in properties and needed and np.array_equal(a & b, fails):
            return f"{text} and {more}"
    return ""


def _parted(observations: Sequence[Observation]) -> tuple[list[Case], list[Case]]:
    """The cases that fail, and those that pass; which were declined say nothing."""
    failing = [o.case for o in observations if not o.passed]
    passing = [o.case for o in observations if o.passed and o.answer.outcome != "declined"]
    return failing, passing


def only_where(observations: Sequence[Observation]) -> str:
    """In words, the properties that all failing calls have and few others; empty if none."""
    failing, passing = _parted(observations)
    if len(failing) < LEAST_PASSING or len(passing) < LEAST_PASSING:
        return ""
    found = [
        (sum(map(holds, passing)), text)
        for text, holds in _properties()
        if all(map(holds, failing)) and sum(map(holds, passing)) < FEW * len(passing)
    ]
    return " and ".join(text for _, text in sorted(found)[:2])


def _predicates(cases: Sequence[Case]) -> Iterator[tuple[str, Predicate]]:
    """Properties, sizes above and up to a number, sizes that are uneven."""
    yield from _properties()
    for name, of in SIZES.items():
        yield from _sizes(name, of, cases)
    for name, of in SIZES.items():
        yield from _uneven(name, of)
    yield (
        "the rows (batch * n_head * n_q) are no multiple of n_threads",
        lambda c: c.batch * c.n_head * c.n_q % c.n_threads != 0,
    )
    yield (
        "batch * n_head is no multiple of n_threads",
        lambda c: c.batch * c.n_head % c.n_threads != 0,
    )


def _properties() -> list[tuple[str, Predicate]]:
    return [
        ("n_q = 1 (decode)", lambda c: c.n_q == 1),
        ("n_q < n_kv", lambda c: c.n_q < c.n_kv),
        ("n_q > 1", lambda c: c.n_q > 1),
        ("n_q = n_kv", lambda c: c.n_q == c.n_kv),
        ("calls are causal", lambda c: c.causal),
        ("calls are not causal", lambda c: not c.causal),
        ("head groups are larger than 1", lambda c: c.n_head != c.n_kv_head),
        ("keys and values are bfloat16", lambda c: c.half_kv),
        ("rows are not contiguous", lambda c: c.layout != "contiguous"),
        ("rows have gaps between them", lambda c: c.layout == "padded"),
        ("logits are of some hundreds", lambda c: c.inputs == "large"),
        ("logits are far below 0", lambda c: c.inputs == "low"),
        ("br or bc is given", lambda c: bool(c.br or c.bc)),
        ("n_threads > 1", lambda c: c.n_threads > 1),
        ("there are more threads than rows", lambda c: c.n_threads > c.batch * c.n_head * c.n_q),
        ("the host calls from several threads", lambda c: c.calls == "heads"),
        ("a call comes after another", lambda c: c.calls in ("again", "changed")),
    ]


def _sizes(name: str, of: Size, cases: Sequence[Case]) -> Iterator[tuple[str, Predicate]]:
    values = sorted({of(c) for c in cases})
    for low, high in pairwise(values):
        at = _round(low, high)
        yield f"{name} > {at}", partial(_above, of, at)
        yield f"{name} <= {at}", partial(_up_to, of, at)
    for value in values[:1]:
        yield f"{name} = {value}", partial(_equal, of, value)


def _uneven(name: str, of: Size) -> Iterator[tuple[str, Predicate]]:
    for m in (2, 4, 8, 16, 32, 64, 128):
        yield f"{name} is no multiple of {m}", partial(_no_multiple, of, m)


def _above(of: Size, at: int, c: Case) -> bool:
    return of(c) > at


def _up_to(of: Size, at: int, c: Case) -> bool:
    return of(c) <= at


def _equal(of: Size, value: int, c: Case) -> bool:
    return of(c) == value


def _no_multiple(of: Size, m: int, c: Case) -> bool:
    return of(c) % m != 0


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
