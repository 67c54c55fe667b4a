"""Rules for who sees whom, and for what is in a row's sum: from the simple to the odd.

The numbers in a rule are taken from what is seen; whether it fits is for the caller to see.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from .words import ranges

Counts = NDArray[np.int64]  # (n_q, n_kv): how often a query counts a key
Rule = tuple[str, NDArray[np.bool_]]
MANY = 140  # keys: with more, only usual sizes of tiles are tried
USUAL = (8, 16, 32, 64, 128, 256, 512)
LARGE = (128, 256, 512)  # tiles that may hold all keys


def masks(seen: NDArray[np.bool_], case: Case) -> Iterator[Rule]:
    """Rules that might say who sees whom."""
    i, j = np.arange(case.n_q)[:, None], np.arange(case.n_kv)[None, :]
    p = i + case.n_kv - case.n_q  # the query's own key
    until = p if case.causal else np.full_like(i, case.n_kv - 1)
    if case.causal:
        yield from _diagonal(seen, i, j, p)
    yield from _anywhere(seen, j, until)
    usual = [b for b in USUAL if b < case.n_kv]
    for b in usual:
        yield from _tiles(b, i, j, p, until, case)
    if case.causal and case.n_q > 1:
        yield from _two_tiles(i, j, p)
    for b in sizes(case.n_kv):
        if b not in usual:
            yield from _tiles(b, i, j, p, until, case)


def sizes(n: int) -> Iterator[int]:
    """Of tiles: usual ones first, then any."""
    usual = [b for b in USUAL if b < n]
    yield from usual
    if n < MANY:
        yield from (b for b in range(2, n) if b not in usual)


def _diagonal(seen: NDArray[np.bool_], i: Counts, j: Counts, p: Counts) -> Iterator[Rule]:
    n_kv = seen.shape[1]
    last = np.where(seen.any(1), n_kv - 1 - seen[:, ::-1].argmax(1), -1)
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
    yield "its own key, on the diagonal, is skipped", (j <= p) & (j != p)


def _anywhere(seen: NDArray[np.bool_], j: Counts, until: Counts) -> Iterator[Rule]:
    n_kv, right = seen.shape[1], j <= until
    first = np.where(seen.any(1), seen.argmax(1), n_kv)
    widest = int(seen.sum(1).max(initial=0))
    never = np.flatnonzero(~seen.any(0))
    if np.array_equal(never, [n_kv - 1]):
        yield "the last key is never seen", right & (j < n_kv - 1)
    for b in sizes(n_kv):
        if np.array_equal(never, np.arange(n_kv // b * b, n_kv)):
            yield (
                f"the last, partial tile of {b} keys is never seen: it is dropped",
                right & (j < n_kv // b * b),
            )
    if 1 < widest == len(seen) < n_kv:
        yield "a window of n_q: a query sees its last n_q keys only", right & (j > until - widest)
    if 0 < widest < n_kv:
        yield (
            f"a window: a query sees its last {widest} keys only",
            right & (j > until - widest),
        )
        yield f"only the first {widest} keys are ever seen", right & (j < widest)
    several = right.sum(1) > 1
    lowest = int(first[several].min(initial=n_kv)) if several.any() else 0
    if lowest:
        keys = "key is" if lowest == 1 else f"{lowest} keys are"
        yield f"the first {keys} never seen", right & (j >= lowest)
    if len(never):
        yield _never(never, n_kv), right & ~np.isin(j, never)
    back = int(np.where(right & ~seen, until - j, n_kv).min())
    for m, r in ((every, r) for every in (2, 3, 4, 8) for r in range(every)):
        yield (
            f"of the keys {back} and more back, those with index % {m} = {r} do not count",
            right & ((until - j < back) | (j % m != r)),
        )


def _tiles(b: int, i: Counts, j: Counts, p: Counts, until: Counts, case: Case) -> Iterator[Rule]:
    off, right = case.n_kv - case.n_q, j <= until
    if case.causal and case.n_q > 1:
        blocks = f"of {b}"
        yield (
            f"the mask is by blocks: a query sees the keys up to the end of its block {blocks}",
            j < (p // b + 1) * b,
        )
        yield (
            f"the mask is by blocks: all queries of a tile {blocks} see the keys of its last",
            j <= np.minimum((i // b + 1) * b - 1, case.n_q - 1) + off,
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
    n_seen = until + 1
    by_thread = ", one a thread," if b == case.n_threads else ""
    parts = f", or {b} equal parts{by_thread or ','}" if b < 17 else ""
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


def _two_tiles(i: Counts, j: Counts, p: Counts) -> Iterator[Rule]:
    off, right = p - i, j <= p
    for br in (8, 16, 32, 64):
        for bc in (8, 16, 32, 64, 128):
            begins = (i // br * br + off) % bc == 0
            yield (
                f"the tile of {bc} keys that begins where the tile of {br} queries does, "
                "on the "
                "diagonal, is skipped",
                right & ~(begins & (j // bc * bc == i // br * br + off) & (j >= bc)),
            )
            end = i // br * br + off + 1  # what the first query of the tile sees
            for first in (right, right & (j < end)):
                yield (
                    f"the tile of {bc} keys that the mask goes through, on the diagonal, is left "
                    f"out for tiles of {br} queries, unless it is the first",
                    np.where(end > bc, j < end // bc * bc, first),
                )


def _never(keys: NDArray[np.intp], n_kv: int) -> str:
    said = f"keys {ranges(keys)} of {n_kv} are never seen"
    return said if len(keys) > 1 else f"key {keys[0]} of {n_kv} is never seen"


def sums(
    n: Counts, case: Case, extra: NDArray[np.float64]
) -> Iterator[tuple[str, NDArray[np.number]]]:
    """Rules for what a sum has besides its n keys, with the number in them taken from extra."""
    for b in sizes(case.n_kv + 1):
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
    for name, b in [*given, *((f"{b}", b) for b in (*sizes(case.n_kv + 1), *LARGE))]:
        for keys, whose in padded:
            yield (
                f"the sum l also counts the padding that fills {whose} up to whole tiles of "
                f"{name}: exp(0) for each missing key",
                (-keys) % b,
            )
