"""Tiles of keys: the running maximum and sum of flash attention, and partial tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from .setup import Array, Change, Combine, Mask, Mistake, exp_rows, softmax_then_pv


@dataclass(frozen=True)
class _Walk:
    """How a flash kernel walks over key tiles; the defaults are right."""

    bc: int
    block_max: bool = False
    rescale_acc: bool = True
    rescale_l: bool = True
    normalise_each: bool = False

    def __call__(self, scores: Array, mask: Mask, v: Array) -> Array:
        hidden = np.where(mask, scores, -np.inf)
        shape = (*scores.shape[:3], 1)
        m, l = np.full(shape, -np.inf), np.zeros(shape)
        acc, tiles = np.zeros((*scores.shape[:3], v.shape[-1])), np.zeros(shape)
        for j in range(0, scores.shape[-1], self.bc):
            s = hidden[..., j : j + self.bc]
            seen = np.isfinite(s).any(-1, keepdims=True)
            top = s.max(-1, keepdims=True)
            m_new = np.where(seen, top if self.block_max else np.maximum(m, top), m)
            p = np.where(seen, np.exp(s - np.where(seen, m_new, 0)), 0)
            rise = np.where(m_new > m, np.exp(m - m_new), 1.0)  # 1 where a block's maximum fell
            pv, row = p @ v[..., j : j + self.bc, :], p.sum(-1, keepdims=True)
            if self.normalise_each:
                acc += np.where(seen, pv / np.where(seen, row, 1), 0)
            else:
                acc = acc * (rise if self.rescale_acc else 1.0) + pv
            l = l * (rise if self.rescale_l else 1.0) + row
            m, tiles = m_new, tiles + seen
        return acc / (tiles if self.normalise_each else l)


@dataclass(frozen=True)
class _Running:
    """A flash kernel that keeps its output normalised: acc = (l acc + P V) / l_new in each tile.

    As FlashAttention's first version has it, without a maximum. The defaults are right.
    """

    bc: int
    tile_max: bool = False  # subtracted from the tile's scores, and forgotten
    keep_acc: bool = True  # else each tile begins at 0
    weigh_acc: bool = True  # acc counts with what was summed before, l
    sum_l: bool = True  # l_new = l + the tile's sum; else the tile's sum alone
    keep_l: bool = True  # l_new is the next tile's l; else l stays 0

    def __call__(self, scores: Array, mask: Mask, v: Array) -> Array:
        hidden = np.where(mask, scores, -np.inf)
        l = np.zeros((*scores.shape[:3], 1))
        acc = np.zeros((*scores.shape[:3], v.shape[-1]))
        for j in range(0, scores.shape[-1], self.bc):
            s = hidden[..., j : j + self.bc]
            top = s.max(-1, keepdims=True)
            p = np.exp(s - np.where(np.isfinite(top) & self.tile_max, top, 0))
            row = p.sum(-1, keepdims=True)
            seen = row > 0
            l_new = l + row if self.sum_l else row
            before = (l if self.weigh_acc else 1.0) * acc if self.keep_acc else 0.0
            grown = before + p @ v[..., j : j + self.bc, :]
            acc = np.where(seen, grown / np.where(seen, l_new, 1), acc)
            l = np.where(seen, l_new, l) if self.keep_l else l
        return acc


def key_tiles(bc: int, implied: tuple[int, ...]) -> Iterator[Mistake]:
    def walked(walk: Combine) -> Change:
        return lambda setup: replace(setup, combine=walk)

    for cause, sentence, walk in (
        ("block_max", "the maximum of the tile is used, not the running one",
         _Walk(bc, block_max=True)),
        ("acc_not_rescaled", "the accumulator is not rescaled when the maximum rises",
         _Walk(bc, rescale_acc=False)),
        ("l_not_rescaled", "the sum l is not rescaled when the maximum rises",
         _Walk(bc, rescale_l=False)),
        ("acc_not_rescaled + l_not_rescaled",
         "neither accumulator nor l is rescaled when the maximum rises",
         _Walk(bc, rescale_acc=False, rescale_l=False)),
        ("normalised_per_tile", "each tile is normalised by itself",
         _Walk(bc, normalise_each=True)),
        ("block_max", "the maximum of the tile is subtracted, and not accounted for",
         _Running(bc, tile_max=True)),
        ("acc_not_weighed", "the output so far is not weighed with l before a tile is added",
         _Running(bc, weigh_acc=False)),
        ("acc_overwritten", "each tile's values take the place of those before, and are not added "
         "to them: only those of the last tile come out, and the sum l has all keys",
         _Running(bc, keep_acc=False)),
        ("l_not_summed", "each tile's output is divided by the tile's own sum, not the running one",
         _Running(bc, sum_l=False)),
        ("last_tile_only", "only the last tile of keys counts: the sum l is not carried from tile "
         "to tile", _Running(bc, keep_l=False)),
        ("nan_from_masked_tile",
         "a wholly masked tile gives NaN: exp(-inf - -inf)",
         _nan_before_last_tile(bc)),
        ("tail_keys_in_sum",
         "the last, partial tile is padded with scores of 0, so exp(0) enters the sum",
         _padded_tail(bc, stale=False)),
        ("tail_keys_in_sum",
         "the last, partial tile keeps weights of the tile before it in the sum",
         _padded_tail(bc, stale=True)),
        ("tail_keys_in_sum",
         "the last, partial tile keeps weights of the tile before it in the sum",
         _stale_raw_tail(bc)),
    ):  # fmt: skip
        yield Mistake(cause, sentence, walked(walk), "softmax", implied)


def _nan_before_last_tile(bc: int) -> Combine:
    """Tiles walked so that a wholly masked one comes first: exp(-inf - -inf) for its rows."""

    def combine(scores: Array, mask: Mask, v: Array) -> Array:
        out = softmax_then_pv(scores, mask, v)
        last = (scores.shape[-1] - 1) // bc * bc
        out[:, :, ~mask[:, last:].any(1)] = np.nan
        return out

    return combine


def _padded_tail(bc: int, *, stale: bool) -> Combine:
    """Rows that reach the partial tile count its missing columns in l, with V taken as 0."""

    def combine(scores: Array, mask: Mask, v: Array) -> Array:
        n_kv = scores.shape[-1]
        start, missing = n_kv - n_kv % bc, -n_kv % bc
        reaches = np.logical_and(mask[:, start:].any(1, keepdims=True), missing > 0)
        m, p, l = exp_rows(scores, mask)
        if stale:
            # What the columns held: the weights of the tile before, against the maximum of then.
            before = np.where(mask, scores, -np.inf)[..., :start]
            m_then = before.max(-1, keepdims=True)
            extra = np.exp(before[..., start - missing :] - m_then).sum(-1, keepdims=True)
            out: Array = (p @ v) / (l + np.where(reaches, extra, 0))
            return out
        top = np.where(reaches, np.maximum(m, 0), m)
        p, l = p * np.exp(m - top), l * np.exp(m - top)
        padded: Array = (p @ v) / (l + np.where(reaches, missing * np.exp(-top), 0))
        return padded

    return combine


def _stale_raw_tail(bc: int) -> Combine:
    """As `_padded_tail` with stale weights, of a kernel that subtracts no maximum."""

    def combine(scores: Array, mask: Mask, v: Array) -> Array:
        n_kv = scores.shape[-1]
        start, missing = n_kv - n_kv % bc, -n_kv % bc
        reaches = np.logical_and(mask[:, start:].any(1, keepdims=True), missing > 0)
        p = np.where(mask, np.exp(scores), 0)
        extra = p[..., start - missing : start].sum(-1, keepdims=True)
        out: Array = (p @ v) / (p.sum(-1, keepdims=True) + np.where(reaches, extra, 0))
        return out

    return combine
