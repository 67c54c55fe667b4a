"""Where in out, and in which calls? Sets of wrong values as products, and a predicate on the call
that parts those that fail from those that pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..observe import Bench, Observation
from .words import ranges

Predicate = Callable[[Case], bool]
Size = Callable[[Case], int]
SIZED = ("batch", "head_dim", "n_q", "n_kv", "n_threads")  # which can be set alone
NO_NEWS = "n_kv > 1"  # with one key there is little to be wrong
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


@dataclass(frozen=True)
class Beyond:
    """A size above a number, or up to it; which number, `low` to below `high` leave open."""

    name: str
    low: int
    high: int
    above: bool

    def __call__(self, c: Case) -> bool:
        return (SIZES[self.name](c) > self.low) == self.above

    def text(self, at: int) -> str:
        return f"{self.name} {'>' if self.above else '<='} {at}"

    def exact(self, failing: Sequence[Case], bench: Bench) -> str:
        """With its number found by more calls; empty if it is not the size that matters."""
        inside, outside = (self.high, self.low) if self.above else (self.low, self.high)
        at_it = [c for c in failing if SIZES[self.name](c) == inside]
        if not at_it:
            return ""
        case = min(at_it, key=lambda c: c.work)

        def fails(n: int) -> bool:
            return not bench.observe(_sized(case, self.name, n)).passed

        if self.name not in SIZED or not bench.holds(_sized(case, self.name, self.high)):
            return self.text(_round(self.low, self.high))
        # Odd inputs may hide a little of a mistake, just beyond the number.
        case, odd = replace(case, inputs="normal"), case
        if not fails(inside):
            case = odd
        if fails(outside):
            return ""
        low, high = self.low, self.high
        while high - low > 1:
            middle = (low + high) // 2
            if fails(middle) == self.above:
                high = middle
            else:
                low = middle
        # A size that matters by what it is a multiple of is found, too, and means nothing.
        around = [n for n in (low - 2, low - 1, low + 2, low + 3) if n > 0]
        around = [n for n in around if bench.holds(_sized(case, self.name, n))]
        if any(fails(n) != ((n > low) == self.above) for n in around):
            return ""
        return self.text(low)


def when(observations: Sequence[Observation], bench: Bench | None = None) -> str:
    """What holds of exactly the calls that fail, in words: the simplest; empty if nothing does.

    bench: to find the numbers in it, and to leave out what a changed size does not confirm.
    """
    failing, passing = _parted(observations)
    if not failing or len(passing) < LEAST_PASSING:
        return ""
    cases = [*failing, *passing]
    fails = np.arange(len(cases)) < len(failing)

    def told(text: str, holds: Predicate) -> str:
        return holds.exact(failing, bench) if bench and isinstance(holds, Beyond) else text

    properties = {text for text, _ in _properties()}

    necessary: list[tuple[str, Predicate, NDArray[np.bool_]]] = []
    for text, holds in _predicates(cases):
        held = np.array([holds(c) for c in cases])
        if np.array_equal(held, fails) and (found := told(text, holds)):
            return "" if found == NO_NEWS else found
        if held[fails].all():
            necessary.append((text, holds, held))
    pairs = list(combinations(necessary, 2))
    # A size can be confirmed by more calls.
    for (text, _, a), (more, holds, b) in sorted(pairs, key=lambda p: not _sizable(p[1][1])):
        # Each part must be needed, or it says what a case or two happen to have.
        needed = min((a & ~b).sum(), (b & ~a).sum()) >= LEAST_PASSING
        same = any(more.startswith(f"{name} ") and "=" in text and name in text for name in SIZED)
        both = text in properties and not same and needed and np.array_equal(a & b, fails)
        if both and (found := told(more, holds)):
            return f"{text} and {found}"
    return ""


def _sizable(holds: Predicate) -> bool:
    return isinstance(holds, Beyond) and holds.name in SIZED


def _sized(case: Case, name: str, n: int) -> Case:
    """The case with this size; of n_q and n_kv, the other follows where it must."""
    if name == "n_q":
        return replace(case, n_q=n, n_kv=max(n, case.n_kv))
    if name == "n_kv":
        return replace(case, n_kv=n, n_q=n if case.n_q == case.n_kv else min(case.n_q, n))
    sizes: dict[str, Any] = {name: n}
    return replace(case, **sizes)


def _parted(observations: Sequence[Observation]) -> tuple[list[Case], list[Case]]:
    """The cases that fail, and those that pass; which were declined say nothing."""
    failing = [o.case for o in observations if not o.passed]
    passing = [o.case for o in observations if o.passed and o.answer.outcome != "declined"]
    return failing, passing


def only_where(observations: Sequence[Observation], bench: Bench) -> str:
    """In words, what all failing calls have and few others do; empty if there is nothing."""
    failing, passing = _parted(observations)
    if len(failing) < LEAST_PASSING or len(passing) < LEAST_PASSING:
        return ""
    cases = [*failing, *passing]
    found = [
        (sum(map(holds, passing)), text, holds)
        for text, holds in (*_properties(), *(s for n in SIZED for s in _sizes(n, SIZES[n], cases)))
        if all(map(holds, failing)) and sum(map(holds, passing)) < FEW * len(passing)
    ]
    told = list[str]()
    for _, text, holds in sorted(found, key=lambda one: one[0]):
        if isinstance(holds, Beyond):
            text = holds.exact(failing, bench)
        news = text not in ("", NO_NEWS, *told)
        same = any(text.startswith(name) and name in other for name in SIZED for other in told)
        if news and not same and len(told) < 2:
            told.append(text)
    return " and ".join(told)


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
        ("queries are bfloat16", lambda c: c.half),
        ("keys are bfloat16 and queries are not", lambda c: c.half_kv and not c.half),
        ("there is a window", lambda c: c.window > 0),
        ("there is a softcap", lambda c: c.softcap > 0),
        ("there are slopes (ALiBi)", lambda c: c.alibi),
        ("there are sinks", lambda c: c.sinks),
        ("there is a kv_begin", lambda c: c.kv_begin),
        ("head_dim_v is not head_dim", lambda c: c.head_dim_v > 0),
        ("lse is asked for", lambda c: c.lse),
        ("rows are not contiguous", lambda c: c.layout not in ("contiguous", "edge")),
        ("memory ends behind each tensor", lambda c: c.layout == "edge"),
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
        for above in (True, False):
            beyond = Beyond(name, low, high, above)
            yield beyond.text(_round(low, high)), beyond
    for value in values[:1]:
        yield f"{name} = {value}", partial(_equal, of, value)


def _uneven(name: str, of: Size) -> Iterator[tuple[str, Predicate]]:
    for m in (2, 4, 8, 16, 32, 64, 128):
        yield f"{name} is no multiple of {m}", partial(_no_multiple, of, m)


def _equal(of: Size, value: int, c: Case) -> bool:
    return of(c) == value


def _no_multiple(of: Size, m: int, c: Case) -> bool:
    return of(c) % m != 0


def _round(low: int, high: int) -> int:
    """A threshold from low on and below high: 1, or a power of two if one lies there."""
    if low <= 1:
        return low
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
