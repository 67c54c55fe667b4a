"""Whose sink, whose slope? What each head makes of them, all products being 0, with mild numbers of
our own, no two alike: so the head can be told whose number it is, and what is done to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..mistakes import Setup
from ..mistakes.setup import exp_rows
from .head import centred
from .probe import Array, Probe

TINY = 1e-12  # of a weight
SINKS, SLOPES = (-1.2, 1.3), (0.04, 0.4)
Said = tuple[str, str]
Vectors = dict[str, NDArray[Any]]
CONSTANTS = {
    "log2(e)": math.log2(math.e),
    "ln(2)": math.log(2),
    "1/2": 0.5,
    "twice": 2.0,
    "-1": -1.0,
}


def rough(case: Case) -> float:
    """Of log P: what is rounded to bfloat16 tells less."""
    return 3e-2 if case.half_kv else 2e-3


def mild(case: Case) -> Vectors:
    """What the case has of sinks, a mild one a head."""
    return {"sinks": _apart(case, *SINKS)} if case.sinks else {}


def weights_of(probe: Probe, q: NDArray[np.float32], given: Vectors) -> Array:
    """The kernel's, for these queries and vectors: (batch, n_head, n_q, n_kv)."""
    case = probe.case
    p = np.empty((case.batch, case.n_head, case.n_q, case.n_kv))
    for start in range(0, case.n_kv, case.width):
        n = min(case.width, case.n_kv - start)
        v = np.zeros_like(probe.drawn[2])
        v[:, :, np.arange(start, start + n), np.arange(n)] = 1
        p[..., start : start + n] = probe.out(q=q, v=v, **given)[..., :n]
    return p


def lack_of(total: Array) -> Array:
    """What rows of out (batch, n_head, n_q, width) lack of 1, all values being 1."""
    return np.asarray(1 - np.median(total, axis=-1))


def read_sinks(probe: Probe, weights: Array, setup: Setup) -> Iterator[Said]:
    """What a row's weights lack of 1 amounts to, beside all heads' sinks.

    weights: (batch, n_head, n_q, n_kv) where all products are 0, of the setup.
    """
    case, sinks = probe.case, setup.sinks
    small = rough(case)
    assert sinks is not None
    lack = 1 - weights.sum(-1)
    m, _, l = exp_rows(setup.scores(), setup.masks[:, None])
    keys = np.broadcast_to((m + np.log(l))[..., 0], lack.shape)
    found = np.log(lack / (1 - lack)) + keys
    seen = np.isfinite(keys)
    readable = seen & (lack > small) & (lack < 1 - small)
    if seen.any() and (lack[seen] <= small).all():
        yield "sinks_ignored", "no row lacks of 1 what its sink takes: sinks are in no sum"
        return
    if times := _counted(found - sinks[:, None], readable):
        yield (
            "sinks_counted",
            f"the sink is in the sum {times} times, and should be there once{_once_for(probe)}",
        )
        return
    yield from _by_head(case, "sink", found, readable, sinks)
    expected = np.exp(sinks[:, None] - np.logaddexp(keys, sinks[:, None]))
    odd = seen & (np.abs(lack - expected) > 3 * small)
    for b, h, i in np.argwhere(odd)[:1]:
        value = f"{found[b, h, i]:.4g}" if readable[b, h, i] else "nothing"
        yield (
            "sinks_wrong",
            f"with all products 0, the weights of query {i} in head {h} add up to "
            f"{1 - lack[b, h, i]:.4g}: the sink counts as {value}, and should as {sinks[h]:.4g} "
            f"({int(odd.sum())} of {odd.size} rows are so)",
        )


def _counted(over: Array, readable: NDArray[np.bool_]) -> int:
    """How often a sink is in the sum, if that is whole and more than once in all rows; or 0."""
    times = np.exp(over[readable])
    n = float(np.median(times)) if times.size else 0
    whole = n > 1.5 and np.abs(times - round(n)).max() < 0.05 * n
    return round(n) if whole else 0


def _once_for(probe: Probe) -> str:
    """What a sink is counted for: so many keys, by calls of one query and fewer keys."""
    case = probe.case

    def times(n: int) -> int:
        few = Probe(probe.bench, replace(case, n_q=1, n_kv=n, window=0, alibi=False))
        given = mild(few.case)
        total = few.out(q=np.zeros_like(few.drawn[0]), v=np.ones_like(few.drawn[2]), **given)
        over = np.log(lack_of(total) / (1 - lack_of(total))) + math.log(n)
        return _counted(over - given["sinks"][:, None], np.isfinite(over)) or 1

    if case.kv_begin or case.softcap:
        return ""
    every, beyond = 0, case.n_kv
    while beyond - every > 1:  # the most keys of which there is one
        middle = (every + beyond) // 2
        every, beyond = (middle, beyond) if times(middle) == 1 else (every, middle)
    more = [min(n, case.n_kv) for n in (2 * every, 2 * every + 1, case.n_kv)]
    if every and all(times(n) == -(-n // every) for n in more):
        return f": it is counted once for every {every} keys"
    return ": it is counted by each thread" if 1 < case.n_threads == times(case.n_kv) else ""


def read_slopes(probe: Probe, given: Vectors, setup: Setup) -> Iterator[Said]:
    """How log P rises from key to key in each head, beside all heads' slopes.

    setup: of the case with q = 0.
    """
    case, slopes = probe.case, _apart(probe.case, *SLOPES)
    weights = weights_of(probe, np.zeros_like(probe.drawn[0]), {**given, "alibi_slopes": slopes})
    usable = weights > TINY
    both = usable[..., 1:] & usable[..., :-1]
    rises = np.diff(np.log(np.maximum(weights, TINY)), axis=-1)
    yield from _by_head(case, "slope", rises, both, slopes.astype(np.float64))
    usable &= np.asarray(setup.masks)[:, None]
    bias = np.log(np.maximum(weights, TINY)) / slopes[:, None, None]
    distance = np.broadcast_to(setup.distance, bias.shape)
    off = centred(bias - distance, usable)
    near = 3 * rough(case) / slopes.min()
    if np.abs(off).max() < near:
        return
    for text, rule in _distances(case, setup.distance):
        if np.abs(centred(bias - rule, usable)).max() < near:
            yield "slopes_distance", text
            return
    b, h, i, j = (int(n) for n in np.unravel_index(np.abs(off).argmax(), off.shape))
    beside = int(np.flatnonzero(usable[b, h, i])[-1 if usable[b, h, i, 0] and j == 0 else 0])
    rise = (bias[b, h, i, j] - bias[b, h, i, beside]) * slopes[h]
    yield (
        "slopes_wrong",
        f"with all products 0, the score of key {j} is {rise:.4g} above that of key {beside} "
        f"(query {i}, head {h}), and by its slope {slopes[h]:.4g} should be "
        f"{slopes[h] * (j - beside):.4g}",
    )


def _distances(case: Case, distance: Array) -> Iterator[tuple[str, Array]]:
    """What else than j - p slopes may be multiplied by."""
    j = np.arange(case.n_kv, dtype=np.float64)
    for m in (2, 4, 8, 16, 32, 64, 128):
        yield f"the distance is counted in steps of {m} keys: all of them have the same", j // m * m
        yield f"the distance is taken from the key's place in its tile of {m}", j % m
        yield f"the distance ends at {m}: keys further away have no more", np.maximum(distance, -m)
    yield "the distance is squared", -(distance**2)
    yield "the distance is |j - p|, and should be j - p", -np.abs(distance)
    yield "keys behind the query's own get no bias", np.minimum(distance, 0)


def _apart(case: Case, low: float, high: float) -> NDArray[np.float32]:
    """A number a head, no two near each other, in no order."""
    order = np.random.default_rng(case.seed).permutation(case.n_head)
    return np.linspace(low, high, case.n_head)[order].astype(np.float32)


def _by_head(
    case: Case, what: str, found: Array, readable: NDArray[np.bool_], given: Array
) -> Iterator[Said]:
    """Of numbers (batch, n_head, ...) that should be those given (n_head,)."""
    near = 3 * rough(case)
    values = np.full(case.n_head, np.nan)
    for h in range(case.n_head):
        some = found[:, h][readable[:, h]]
        if some.size:
            values[h] = np.median(some)
            if np.abs(some - values[h]).max() > near:
                return  # not one number: that is for others to say
    known = np.isfinite(values)
    if not known.any() or (np.abs(values - given)[known] < near).all():
        return
    off = np.abs(values[:, None] - given)
    whose = off.argmin(1)
    # Of numbers that lie close together none can be told.
    if (off.min(1)[known] < near).all() and near < np.diff(np.sort(given)).min(initial=1):
        heads = np.flatnonzero(known & (whose != np.arange(case.n_head)))
        h = int(heads[0])
        rule = _rule(whose, known, case)
        yield (
            f"{what}s_of_another_head",
            f"the {what} of another head is taken: head {h} takes that of head {whose[h]}"
            f"{f', {rule}' if rule else ''} ({len(heads)} of {case.n_head} heads do not take their "
            "own)",
        )
        return
    if known.sum() > 2:
        (by, plus), *_ = np.linalg.lstsq(
            np.stack((given[known], np.ones(known.sum())), 1), values[known], rcond=None
        )
        if np.abs(by * given + plus - values)[known].max() < near:
            yield f"{what}s_wrong", f"each head's {what} counts as {_affine(by, plus, what)}"
            return
    h = int(np.flatnonzero(known & (np.abs(values - given) > near))[0])
    yield (
        f"{what}s_wrong",
        f"the {what} of head {h} counts as {values[h]:.4g} in every row, and should as "
        f"{given[h]:.4g}",
    )


def _affine(by: float, plus: float, what: str) -> str:
    scaled = what if abs(by - 1) < 1e-2 else f"{by:.4g} times the {what}"
    for name, value in CONSTANTS.items():
        if abs(by / value - 1) < 1e-2:
            scaled = f"{by:.4g} times the {what} ({name})"
    if abs(by) < 1e-2:
        return f"{plus:.4g}, whatever it is"
    if abs(plus) < 2e-2:
        return scaled
    return f"{scaled} {'+' if plus > 0 else '-'} {abs(plus):.4g}"


def _rule(whose: NDArray[np.intp], known: NDArray[np.bool_], case: Case) -> str:
    """The mapping of heads, where one rule gives it for all that are known."""
    h, n = np.arange(case.n_head), case.n_head
    group = n // case.n_kv_head
    rules = {
        "as all do": h * 0,
        "by the key head, h / (n_head / n_kv_head)": h // group,
        "the first head of its group": h // group * group,
        "by h % (n_head / n_kv_head)": h % group,
        "by h % n_kv_head": h % case.n_kv_head,
        "the next head": np.minimum(h + 1, n - 1),
        "the next head, head 0 for the last": np.roll(h, -1),
        "the head before": np.maximum(h - 1, 0),
        "the head before, the last for head 0": np.roll(h, 1),
        "the heads in reverse": h[::-1],
    }
    rules |= {f"by h / {m}": h // m for m in range(2, n)}
    rules |= {f"by h % {m}": h % m for m in range(2, n)}
    return next((text for text, rule in rules.items() if (rule == whose)[known].all()), "")
