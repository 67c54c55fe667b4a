"""Where does a row begin? Rules for the first key that a query sees, by window and kv_begin."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..cases import Case

Counts = NDArray[np.int64]
MULTIPLES = (2, 4, 8, 16, 32, 64, 128)


def edge(
    sees: NDArray[np.bool_], should: NDArray[np.bool_], case: Case, begins: Counts | None
) -> str:
    """What rule gives the first key of all rows, in words; empty if none does, or more is wrong.

    sees, should: (batch, n_head, n_q, n_kv). begins: kv_begin (batch,).
    """
    n = sees.shape[-1]
    first, last = sees.argmax(-1), n - 1 - sees[..., ::-1].argmax(-1)
    right_last = n - 1 - should[..., ::-1].argmax(-1)
    both = sees.any(-1) & should.any(-1)
    whole = (last == right_last) & (sees.sum(-1) == last - first + 1)
    if not whole[both].all():
        return ""
    shape = (case.batch, 1, case.n_q)
    i = np.broadcast_to(np.arange(case.n_q), shape)
    begin = np.broadcast_to(0 if begins is None else begins[:, None, None], shape)
    for text, rule in _rules(case, i, begin, first[both], should.argmax(-1)[both]):
        given = np.broadcast_to(np.clip(rule, 0, None), first.shape)
        # What lies behind a row's end shows no key.
        if (given == first)[both].all() and (given > right_last)[
            ~sees.any(-1) & should.any(-1)
        ].all():
            return text
    return ""


def _rules(
    case: Case, i: Counts, begin: Counts, first: Counts, right: Counts
) -> Iterator[tuple[str, Counts]]:
    """A sentence's beginning, and the first keys: (batch, 1, n_q)."""
    w = case.window
    edges = i + case.n_kv - case.n_q - w + 1 if w else np.zeros_like(i)
    free = first > 0
    by = int(np.median((right - first)[free])) if free.any() else 0
    if by:
        keys = f"{abs(by)} {'key' if abs(by) == 1 else 'keys'} too {'early' if by > 0 else 'late'}"
        if w:
            yield f"the window begins {keys}", np.maximum(edges - by, begin)
        yield f"rows begin {keys}", np.maximum(edges, begin) - by
        if case.kv_begin:
            yield f"kv_begin is taken {keys}", np.maximum(edges, begin - by)
    if w and case.kv_begin:
        yield "the window hides nothing where there is a kv_begin", begin
        yield "kv_begin hides nothing where there is a window", edges
        yield "the lesser of kv_begin and the window's first key is taken", np.minimum(edges, begin)
        yield "the window's first key is counted from kv_begin", np.maximum(edges, 0) + begin
    for b in range(case.batch):
        if case.kv_begin and case.batch > 1:
            text = f"kv_begin of batch {b} is taken for every batch"
            yield text, np.maximum(edges, begin[b : b + 1])
    for m in MULTIPLES:
        for way, near in (("down", _down), ("up", _up)):
            to = f"{way} to a multiple of {m}"
            if w:
                yield f"the window's first key is rounded {to}", np.maximum(near(edges, m), begin)
            if case.kv_begin:
                yield f"kv_begin is rounded {to}", np.maximum(edges, near(begin, m))
            yield f"a row's first key is rounded {to}", near(np.maximum(edges, begin), m)
    if w:
        yield (
            "the window is counted from query i, not from i + n_kv - n_q",
            np.maximum(i - w + 1, begin),
        )
        for br in dict.fromkeys((case.br or 8, 4, 8, 16, 32, 64)):
            start = i // br * br
            last = np.minimum(start + br, case.n_q) - 1
            for of, query in (("first", start), ("last", last)):
                text = f"queries of a tile of {br} have the window of its {of}"
                yield text, np.maximum(edges + query - i, begin)
        yield "all queries have the window of the last", np.maximum(edges[..., -1:], begin)
        yield "all queries have the window of the first", np.maximum(edges[..., :1], begin)


def _down(n: Counts, m: int) -> Counts:
    return np.maximum(n, 0) // m * m


def _up(n: Counts, m: int) -> Counts:
    return -(-np.maximum(n, 0) // m) * m
