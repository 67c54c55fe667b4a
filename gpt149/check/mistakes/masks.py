"""Scale, dimensions and mask: which scores count, and how much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..cases import Case
from .setup import Change, Mask, Mistake, Setup, tile_sizes


def scales(case: Case) -> Iterator[Mistake]:
    d, s = case.head_dim, case.scale_value

    def scaled(value: float) -> Change:
        return lambda setup: replace(setup, scale=value)

    yield Mistake("scale_missing", "the scores are not multiplied by scale", scaled(1.0), "scale")
    yield Mistake("scale_twice", "the scale is applied twice", scaled(s * s), "scale")
    for value, what in (
        (1 / d, "1/head_dim"),
        (d**-0.5, "1/sqrt(head_dim)"),
        (1 / s, "1/scale"),
        (s**0.5, "sqrt(scale)"),
    ):
        yield Mistake(
            "scale_wrong",
            f"the scores are multiplied by {what} instead of scale",
            scaled(value),
            "scale",
        )


def dims(case: Case) -> Iterator[Mistake]:
    """Parts of head_dim that are left out of q . k."""
    d = case.head_dim

    def first(n: int) -> Change:
        return lambda setup: replace(setup, q=np.where(np.arange(d) < n, setup.q, 0))

    tails = [(d // w * w, "those behind whole fours, eights or sixteens are") for w in (4, 8, 16)]
    for n, which in [(d - 1, "the last is"), *tails]:
        if n < d:
            sentence = f"not all dimensions count in the scores: {which} left out"
            yield Mistake("head_dim_cut", sentence, first(n), "dims")


def masks(case: Case) -> Iterator[Mistake]:
    n_q, n_kv = case.n_q, case.n_kv
    full = np.ones((n_q, n_kv), dtype=bool)
    shift = n_kv - n_q

    def masked(mask: Mask) -> Change:
        return lambda setup: replace(setup, mask=mask)

    if case.causal:
        for cause, sentence, mask in (
            (
                "causal_missing",
                "the causal mask is missing: queries see the keys behind them",
                full,
            ),
            (
                "causal_off_by_one",
                "the causal mask is off by one: a query does not see its own key",
                np.tril(full, shift - 1),
            ),
            (
                "causal_off_by_one",
                "the causal mask is off by one: a query sees the next key too",
                np.tril(full, shift + 1),
            ),
            (
                "causal_top_left",
                "the causal mask is aligned to the top left (j <= i) instead of the bottom right "
                "(j <= i + n_kv - n_q)",
                np.tril(full),
            ),
        ):
            yield Mistake(cause, sentence, masked(mask), "mask")
    elif n_q <= n_kv:
        yield Mistake(
            "causal_always",
            "a causal mask is applied though causal is 0",
            masked(np.tril(full, shift)),
            "mask",
        )
    if n_q != n_kv:
        square = np.zeros_like(full)
        square[:, : min(n_q, n_kv)] = True
        yield Mistake(
            "square_assumed",
            "n_kv is taken to be n_q: only the first n_q keys are seen",
            masked(np.tril(square) if case.causal else square),
            "mask",
        )

    def without(key: int) -> Change:
        def change(setup: Setup) -> Setup:
            mask = setup.mask.copy()
            mask[mask.sum(1) > 1, key] = False
            return replace(setup, mask=mask)

        return change

    yield Mistake("first_key_dropped", "the first key is left out", without(0), "key")
    yield Mistake("last_key_dropped", "the last key is left out", without(-1), "key")
    for bc, implied in tile_sizes(case):
        if n_kv % bc:
            tail = full.copy()
            tail[:, n_kv - n_kv % bc :] = False
            yield Mistake(
                "tail_keys_dropped",
                "the last, partial tile of keys is left out",
                lambda setup, tail=tail: masked(setup.mask & tail)(setup),  # type: ignore[misc]
                "key",
                implied,
            )
