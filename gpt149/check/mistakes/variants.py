"""Windows, hidden first keys, rows without keys, the width of V; and variants that are ignored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..arena import Placed, place
from ..cases import Case
from .biases import sinks, slopes, softcaps
from .setup import USUAL_TILES, Array, Change, Mistake, Setup, scored, tile_sizes

# What a variant is called in causes and for people, and the setup without it.
IGNORED: dict[str, tuple[str, str, Change]] = {
    "window": ("window", "the sliding window", lambda s: replace(s, window=0)),
    "softcap": ("softcap", "the softcap (tanh)", lambda s: replace(s, softcap=0.0)),
    "alibi": ("slopes", "alibi_slopes, the linear bias,", lambda s: replace(s, slopes=None)),
    "sinks": ("sinks", "sinks, one more score a head,", lambda s: replace(s, sinks=None)),
    "kv_begin": ("kv_begin", "kv_begin, left padding,", lambda s: replace(s, begins=None)),
}  # fmt: skip


def variants(case: Case) -> Iterator[Mistake]:
    """Of the variants that the case has."""
    for name, (cause, words, change) in IGNORED.items():
        if getattr(case, name):
            sentence = f"{words} is claimed and ignored: the call is computed as if it had none"
            yield Mistake(f"{cause}_ignored", sentence, change, cause)
    if case.window:
        yield from _windows(case)
    if case.softcap:
        yield from softcaps(case)
    if case.alibi:
        yield from slopes(case)
    if case.sinks:
        yield from sinks(case)
    if case.kv_begin:
        yield from _begins(case)
    if case.window or case.kv_begin:
        yield from _hidden_rows()
    if case.head_dim_v and not case.half_kv:
        yield from _widths(case)


def _windows(case: Case) -> Iterator[Mistake]:
    w, i, j = case.window, np.arange(case.n_q)[:, None], np.arange(case.n_kv)
    own = i + case.n_kv - case.n_q
    first = own - w + 1

    def seen(rule: NDArray[np.bool_]) -> Change:
        return lambda setup: replace(setup, window=0, mask=setup.mask & rule)

    for by, what in ((1, "one key too many (p - window <= j)"), (-1, "one key too few")):
        said = f"the window is off by one: a query sees {what}; it is p - window < j <= p"
        yield Mistake("window_off_by_one", said, seen(j >= first - by), "window")
    if case.n_q != case.n_kv:
        yield Mistake(
            "window_top_left",
            "the window is counted from the top left, from query i and not from its position "
            "i + n_kv - n_q: where n_q < n_kv, keys before it are seen",
            seen(j >= i - w + 1),
            "window",
        )
    for value, how in ((w // 2, "half as wide"), (2 * w, "twice as wide")):
        said = f"the window is {how} as it should be"
        yield Mistake("window_size", said, seen(j >= own - value + 1), "window")
    yield Mistake(
        "window_in_chunks",
        "keys are seen in chunks of `window`: a query sees its own chunk, and not its last "
        "`window` keys",
        seen(j >= own // w * w),
        "window",
    )
    for bc, implied in tile_sizes(case):
        for rule, cause, said in (
            (
                j >= first // bc * bc,
                "window_tile_uncut",
                f"the window begins with a whole tile of {bc} keys: those of the tile that lie "
                "before the window are seen",
            ),
            (
                j >= -(-np.maximum(first, 0) // bc) * bc,
                "window_tile_skipped",
                f"the tile of {bc} keys that the window's edge goes through is skipped, though "
                "some of its keys are seen",
            ),
            (
                (j >= first) & ~((j // bc == first // bc) & (first > 0)),
                "window_tile_skipped",
                f"the tile of {bc} keys in which the window begins is skipped",
            ),
        ):
            yield Mistake(cause, said, seen(rule), "window", implied)
    yield Mistake(
        "window_of_last_query",
        "all queries have the window of the last: keys before n_kv - window are hidden from all",
        seen(j >= case.n_kv - w),
        "window",
    )
    for br in [case.br] if case.br else USUAL_TILES:
        if br > 1 and case.n_q > 1:
            start = i // br * br
            last = np.minimum(start + br, case.n_q) - 1
            for of, rule in (("first", first + start - i), ("last", first + last - i)):
                said = f"all queries of a tile of {br} have the window of its {of} query"
                yield Mistake("window_of_tile", said, seen(j >= rule), "window")
            # Keys left of the last query's window are skipped, and the rest is masked rightly.
            for bc, _ in tile_sizes(case):
                skipped = np.maximum(first + last - i, 0) // bc * bc
                said = (
                    f"tiles of {bc} keys left of the last query's window are skipped for all "
                    f"queries of a tile of {br}: the first of them still sees some"
                )
                rule = (j >= first) & (j >= skipped)
                yield Mistake("window_tile_skipped", said, seen(rule), "window")


def _begins(case: Case) -> Iterator[Mistake]:
    given = case.vectors()["kv_begin"].astype(np.int64)
    b, j = np.arange(case.batch), np.arange(case.n_kv)

    def begins(values: NDArray[np.int64]) -> Change:
        return lambda setup: replace(setup, begins=values)

    for order, how in (
        (b * 0, "that of batch 0 for every batch"),
        (np.roll(b, 1), "that of the batch before"),
        (np.roll(b, -1), "that of the next batch"),
        (b[::-1], "in reverse order"),
    ):
        if not np.array_equal(order, b):
            said = f"kv_begin of another batch is taken: {how}"
            yield Mistake("kv_begin_of_another_batch", said, begins(given[order]), "kv_begin")
    for by, what in ((1, "its first key is hidden"), (-1, "the key before it is seen")):
        said = f"kv_begin is off by one: {what}; hidden are the keys j < kv_begin"
        yield Mistake("kv_begin_off_by_one", said, begins(given + by), "kv_begin")
    for values, how in (
        (case.n_kv - given, "counted from the other end, n_kv - kv_begin"),
        (given + case.n_q - case.n_kv, "counted by queries, not by keys"),
    ):
        yield Mistake("kv_begin_misplaced", f"kv_begin is {how}", begins(values), "kv_begin")

    for bc, implied in tile_sizes(case):
        for values, said in (
            (given // bc * bc, f"keys before kv_begin in the same tile of {bc} keys are seen"),
            (-(-given // bc) * bc, f"the tile of {bc} keys in which kv_begin lies is skipped"),
        ):
            yield Mistake("kv_begin_in_tiles", said, begins(values), "kv_begin", implied)
    if case.causal:
        shift = case.n_kv - case.n_q
        own = np.arange(case.n_q)[:, None] + shift

        def moved(setup: Setup) -> Setup:
            def score(setup: Setup, dots: Array) -> Array:
                hidden = np.asarray(j > own - given[:, None, None, None])
                return np.where(hidden, -np.inf, scored(setup, dots))

            return replace(setup, score=score, empty=np.nan)

        yield Mistake(
            "kv_begin_moves_mask",
            "kv_begin moves the causal mask as well: positions are counted from it",
            moved,
            "kv_begin",
        )


def _hidden_rows() -> Iterator[Mistake]:
    yield Mistake(
        "hidden_rows_nan",
        "a query from which every key is hidden gets NaN (0 / 0, or exp(-inf - -inf)), and must "
        "get zeros",
        lambda setup: replace(setup, empty=np.nan),
        "hidden",
    )

    def mean(setup: Setup, *, causal: bool) -> Setup:
        hidden = ~np.asarray(setup.masks.any(-1))  # (batch or 1, n_q)
        seen = setup.mask.astype(float) if causal else np.ones(setup.mask.shape)
        means = seen / seen.sum(-1, keepdims=True) @ setup.v[:, setup.kv_head]

        def step(out: Array) -> Array:
            return np.where(hidden[:, None, :, None], means, out)

        return replace(setup, after=(*setup.after, step))

    for causal in (False, True):
        yield Mistake(
            "hidden_rows_mean",
            "a query from which every key is hidden gets the mean of V, and must get zeros: the "
            "mask is a large negative number, and not -infinity",
            lambda setup, causal=causal: mean(setup, causal=causal),  # type: ignore[misc]
            "hidden",
        )


def _widths(case: Case) -> Iterator[Mistake]:
    d, width = case.head_dim, case.width
    placed = place(case)

    def apart(n_head: int, n: int) -> tuple[int, int, int]:
        return (n_head * n * d, n * d, d)

    def v_apart(setup: Setup) -> Setup:
        p = placed["v"]
        if setup.v.shape != p.shape:  # by another mistake
            return setup
        wrong = Placed(0, p.shape, apart(case.n_kv_head, case.n_kv))
        memory = np.full(max(p.span, wrong.span), np.nan, np.float32)
        Placed(0, p.shape, p.strides).view(memory)[...] = setup.v
        return replace(setup, v=wrong.view(memory).astype(np.float64))

    def out_apart(setup: Setup) -> Setup:
        p = placed["out"]
        wrong = Placed(0, p.shape, apart(case.n_head, case.n_q))

        def step(out: Array) -> Array:
            memory = np.full(max(p.span, wrong.span), np.nan, np.float32)
            wrong.view(memory)[...] = out
            return Placed(0, p.shape, p.strides).view(memory).astype(np.float64)

        return replace(setup, after=(*setup.after, step))

    for name, change in (("v", v_apart), ("out", out_apart)):
        yield Mistake(
            "head_dim_v_stride",
            f"the rows of {name} are taken to be head_dim apart, and not as its strides and "
            "head_dim_v say",
            change,
            "strides",
        )
    if width < d:

        def narrow(setup: Setup) -> Setup:
            return replace(setup, q=np.where(np.arange(d) < width, setup.q, 0))

        said = "q and k are taken to have rows of head_dim_v: dims behind it do not count in scores"
        yield Mistake("head_dim_v_for_keys", said, narrow, "dims")
