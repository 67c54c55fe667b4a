"""Softmax and accumulation, and what becomes of the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..judge import softmax
from .setup import (
    Array,
    Change,
    Combine,
    Mask,
    Mistake,
    Setup,
    exp_rows,
    query_tile_sizes,
    softmax_then_pv,
    with_tensors,
)


def _no_max(scores: Array, mask: Mask, v: Array) -> Array:
    with np.errstate(all="ignore"):
        p = np.where(mask, np.exp(scores.astype(np.float32)), np.float32(0)).astype(np.float64)
        out: Array = (p @ v) / p.sum(-1, keepdims=True)
    return out


def _max_from_0(scores: Array, mask: Mask, v: Array) -> Array:
    m, _, _ = exp_rows(scores, mask)
    hidden = np.where(mask, scores, -np.inf) - np.maximum(m, 0)
    p = np.exp(hidden.astype(np.float32)).astype(np.float64)
    out: Array = (p @ v) / p.sum(-1, keepdims=True)
    return out


def _unnormalised(scores: Array, mask: Mask, v: Array) -> Array:
    _, p, _ = exp_rows(scores, mask)
    out: Array = p @ v
    return out


def _normalised_twice(scores: Array, mask: Mask, v: Array) -> Array:
    _, p, l = exp_rows(scores, mask)
    out: Array = (p @ v) / l**2
    return out


def _wrong_axis(scores: Array, mask: Mask, v: Array) -> Array:
    hidden = np.where(mask, scores, -np.inf)
    p = np.exp(hidden - hidden.max(-2, keepdims=True))
    out: Array = (p / p.sum(-2, keepdims=True)) @ v
    return out


def _transposed(scores: Array, mask: Mask, v: Array) -> Array:
    if mask.shape[0] != mask.shape[1]:
        return softmax_then_pv(scores, mask, v)  # what lies there cannot be told
    out: Array = softmax(scores, mask).swapaxes(-1, -2) @ np.nan_to_num(v)
    return out


def _l_over_heads(scores: Array, mask: Mask, v: Array) -> Array:
    _, p, l = exp_rows(scores, mask)
    out: Array = (p @ v) / np.cumsum(l, 1)
    return out


def _raw_l_over_heads(scores: Array, mask: Mask, v: Array) -> Array:
    """Without a maximum, l is the sum of the exponentials themselves; batches follow each other."""
    p = np.where(mask, np.exp(scores), 0)
    l = p.sum(-1, keepdims=True)
    carried = np.cumsum(l.reshape(-1, *l.shape[2:]), 0).reshape(l.shape)
    out: Array = (p @ v) / carried
    return out


def _raw_l_over_rows(scores: Array, mask: Mask, v: Array) -> Array:
    p = np.where(mask, np.exp(scores), 0)
    l = p.sum(-1, keepdims=True)
    out: Array = (p @ v) / np.cumsum(l, 2)
    return out


def _l_over_rows(scores: Array, mask: Mask, v: Array) -> Array:
    _, p, l = exp_rows(scores, mask)
    out: Array = (p @ v) / np.cumsum(l, 2)
    return out


def _m_over_rows(scores: Array, mask: Mask, v: Array) -> Array:
    m, _, _ = exp_rows(scores, mask)
    batch, n_head, n_q, _ = m.shape
    carried = np.maximum.accumulate(m.reshape(batch, -1), axis=1).reshape(batch, n_head, n_q, 1)
    p = np.exp((np.where(mask, scores, -np.inf) - carried).astype(np.float32)).astype(np.float64)
    out: Array = (p @ v) / p.sum(-1, keepdims=True)
    return out


def _acc_over_rows(scores: Array, mask: Mask, v: Array) -> Array:
    return np.cumsum(softmax_then_pv(scores, mask, v), axis=2)


def _mean_of_v(scores: Array, mask: Mask, v: Array) -> Array:
    p = mask / mask.sum(-1, keepdims=True)
    out: Array = p @ v
    return out


def _own_v(scores: Array, mask: Mask, v: Array) -> Array:
    n_q, n_kv = mask.shape
    own = np.clip(np.arange(n_q) + n_kv - n_q, 0, n_kv - 1)
    out: Array = v[:, :, own]
    return out


def _aliased(stride_of: Callable[[int, int], int]) -> Combine:
    """Scores kept in one buffer whose rows are `stride` apart instead of n_kv: rows overlap."""

    def combine(scores: Array, mask: Mask, v: Array) -> Array:
        batch, n_head, n_q, n_kv = scores.shape
        stride = stride_of(v.shape[-1], n_kv)
        out = np.empty((batch, n_head, n_q, v.shape[-1]))
        n = mask.sum(1)  # the visible keys are the first ones
        for b in range(batch):
            for h in range(n_head):
                flat = np.full(max(n_q, n_kv) * (n_kv + stride), np.nan)
                rows = [flat[i * stride : i * stride + n[i]] for i in range(n_q)]
                for i, row in enumerate(rows):
                    row[:] = scores[b, h, i, : n[i]]
                for row in rows:
                    p = np.exp(row - row.max(initial=-np.inf))
                    row[:] = p / p.sum()
                for i, row in enumerate(rows):
                    out[b, h, i] = row @ v[b, h, : n[i]]
        return out

    return combine


def _rounded(scores: Array, mask: Mask, v: Array) -> Array:
    s = np.where(mask, scores, -np.inf).astype(np.float16).astype(np.float64)
    p = np.exp(s - s.max(-1, keepdims=True)).astype(np.float16).astype(np.float64)
    out: Array = (p @ v) / p.sum(-1, keepdims=True)
    return out


def softmaxes() -> Iterator[Mistake]:
    def combined(by: Combine) -> Change:
        return lambda setup: replace(setup, combine=by)

    for cause, sentence, by in (
        ("no_max", "exp overflows: the row's maximum is not subtracted from the scores", _no_max),
        ("max_starts_high",
         "the row's maximum starts at 0 (or FLT_MIN, which is above 0) instead of -INFINITY: where "
         "all scores are far below, every exp is 0", _max_from_0),
        ("unnormalised", "the rows are not divided by their sum l", _unnormalised),
        ("normalised_twice", "the rows are divided by their sum l twice", _normalised_twice),
        ("p_transposed", "the weights are read transposed: out is P^T V, not P V", _transposed),
        ("wrong_axis", "the softmax runs over the queries instead of the keys", _wrong_axis),
        ("l_not_reset", "the sum l is not reset between heads", _l_over_heads),
        ("l_not_reset", "the sum l is not reset between queries", _l_over_rows),
        ("l_not_reset", "the sum l is not reset between heads", _raw_l_over_heads),
        ("l_not_reset", "the sum l is not reset between queries", _raw_l_over_rows),
        ("m_not_reset", "the maximum m is not reset between rows: exp underflows", _m_over_rows),
        ("acc_not_reset", "the accumulator is not cleared between queries", _acc_over_rows),
        ("v_mean", "the output is the mean of the visible rows of V: all weights are equal",
         _mean_of_v),
        ("copies_v", "the output is the query's own row of V", _own_v),
        ("aliased_scores",
         "scores are stored with row stride head_dim in an n_q x n_kv buffer: rows overlap",
         _aliased(lambda d, n_kv: min(d, n_kv))),
        ("half_precision", "scores or weights are rounded to half precision", _rounded),
    ):  # fmt: skip
        yield Mistake(cause, sentence, combined(by), "softmax")

    def bf16(setup: Setup) -> Setup:
        return with_tensors(setup, {n: _to_bf16(getattr(setup, n)) for n in "qkv"})

    yield Mistake("half_precision", "Q, K and V are rounded to bfloat16", bf16, "round")


def _to_bf16(t: Array) -> Array:
    bits = t.astype(np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)  # ties go to even
    rounded: NDArray[np.uint32] = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)


def outputs(case: Case) -> Iterator[Mistake]:
    def then(step: Callable[[Array], Array]) -> Change:
        return lambda setup: replace(setup, after=(*setup.after, step))

    yield Mistake("zeros", "the output is all zeros", then(np.zeros_like), "out")
    for by in (1, -1):
        yield Mistake(
            "rows_shifted",
            f"the rows of the output are shifted by {by:+d}",
            then(lambda out, by=by: np.roll(out, by, 2)),  # type: ignore[misc]
            "out",
        )
    for br, implied in query_tile_sizes(case):
        yield Mistake(
            "tail_queries_zero",
            "the last, partial tile of queries is left out: its rows of the output are zeros",
            then(lambda out, end=case.n_q - case.n_q % br: _cut(out, end)),  # type: ignore[misc]
            "out",
            implied,
        )


def _cut(out: Array, end: int) -> Array:
    """The output with zeros from row `end` on."""
    cut: Array = out.copy()
    cut[:, :, end:] = 0
    return cut
