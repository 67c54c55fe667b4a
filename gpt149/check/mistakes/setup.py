"""A computation of attention in float64 with every step open to change, and what a mistake is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..judge import softmax, visible

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
USUAL_TILES = (16, 32, 64, 128, 256)

Combine = Callable[[Array, Mask, Array], Array]
Change = Callable[["Setup"], "Setup"]


def scored(setup: Setup, dots: Array) -> Array:
    """The right way from products to scores."""
    return biased(setup, capped(setup, setup.scale * dots))


def capped(setup: Setup, scores: Array) -> Array:
    cap = setup.softcap
    return np.asarray(cap * np.tanh(scores / cap)) if cap else scores


def biased(setup: Setup, scores: Array) -> Array:
    if setup.slopes is None:
        return scores
    return np.asarray(scores + setup.slopes[:, None, None] * setup.distance)


@dataclass(frozen=True)
class Setup:
    """softmax(scale Q K^T + mask) V of a case, in steps.

    q (batch, n_head, n_q, d); k, v (batch, n_kv_head, n_kv, d); kv_head (n_head,): whose keys a
    query head reads; mask (n_q, n_kv): True is visible, but for window and first. score: from
    products q k, (batch, n_head, n_q, n_kv). combine: scores, mask and v (batch, n_head, n_kv, d)
    to out. after: steps on out, in turn.

    What a case has not is None. first (batch or 1, n_q): the first key that a query sees. sinks
    (n_head,): one more key, of value 0, behind the others. empty: out where every key is hidden.
    """

    case: Case
    q: Array
    k: Array
    v: Array
    kv_head: NDArray[np.intp]
    scale: float
    mask: Mask
    combine: Combine
    after: tuple[Callable[[Array], Array], ...] = ()
    score: Callable[[Setup, Array], Array] = scored
    window: int = 0
    begins: NDArray[np.int64] | None = None  # kv_begin: (batch,)
    softcap: float = 0.0
    slopes: Array | None = None  # (n_head,)
    sinks: Array | None = None
    empty: float = 0.0

    @property
    def distance(self) -> Array:
        """From a query's own key to each: (n_q, n_kv), 0 or less for those before."""
        n_q, n_kv = self.mask.shape
        own = np.arange(n_q) + n_kv - n_q
        return np.asarray(np.arange(n_kv) - own[:, None], np.float64)

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Who sees whom, window and first keys included: (batch or 1, n_q, n_kv)."""
        mask = self.mask
        if self.window:
            mask = mask & (self.distance > -self.window)
        if self.begins is None:
            return mask[None]
        return np.asarray(mask & (np.arange(mask.shape[1]) >= self.begins[:, None, None]))

    def scores(self) -> Array:
        """(batch, n_head, n_q, n_kv)."""
        return self.score(self, self.q @ self.k[:, self.kv_head].swapaxes(-1, -2))

    def predict(self) -> Array:
        """The output of this computation, float64 (batch, n_head, n_q, d)."""
        with np.errstate(all="ignore"):
            scores, v, masks = self.scores(), self.v[:, self.kv_head], self.masks
            if self.sinks is not None:
                scores, v, masks = with_sinks(self.sinks, scores, v, masks)
            every = (
                [(scores, masks[0], v)]
                if len(masks) == 1
                else [(scores[b : b + 1], mask, v[b : b + 1]) for b, mask in enumerate(masks)]
            )
            out = np.concatenate([self._out(*one) for one in every])
            for step in self.after:
                out = step(out)
        return out

    def _out(self, scores: Array, mask: Mask, v: Array) -> Array:
        """Of batches that see the same. What kernels store where no key is seen differs."""
        out = self.combine(scores, mask, v)
        out[:, :, ~mask.any(1)] = self.empty
        return out


@dataclass(frozen=True)
class Mistake:
    """cause: its short name. sentence: what the kernel does, for a person. change: how."""

    cause: str
    sentence: str
    change: Change
    # Mistakes in the same step cannot be combined with each other.
    step: str = field(default="", compare=False)
    # The kernel's own choices of bc with which this is what it does; (0,): any.
    tiles: tuple[int, ...] = (0,)


def right(case: Case, q: Array, k: Array, v: Array) -> Setup:
    """The computation without a mistake."""
    kv_head = np.arange(case.n_head) // (case.n_head // case.n_kv_head)
    given = case.vectors()
    return Setup(
        case, q, k, v, kv_head, case.scale_value, visible(replace(case, window=0)), softmax_then_pv,
        window=case.window, softcap=case.softcap, begins=given.get("kv_begin"),
        slopes=_wide(given.get("alibi_slopes")), sinks=_wide(given.get("sinks")),
    )  # fmt: skip


def _wide(vector: NDArray[np.float32] | None) -> Array | None:
    return None if vector is None else vector.astype(np.float64)


def with_sinks(
    sinks: Array, scores: Array, v: Array, masks: NDArray[np.bool_]
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Scores, values and masks with one more key, of value 0."""
    column = np.broadcast_to(sinks[:, None, None], (*scores.shape[:3], 1))
    return (
        np.concatenate((scores, column), -1),
        np.concatenate((v, np.zeros((*v.shape[:2], 1, v.shape[-1]))), -2),
        np.concatenate((masks, np.ones((*masks.shape[:2], 1), bool)), -1),
    )


def with_tensors(setup: Setup, tensors: dict[str, Array]) -> Setup:
    """The setup with some of q, k and v replaced."""
    read = {name: tensors.get(name, getattr(setup, name)) for name in "qkv"}
    return replace(setup, q=read["q"], k=read["k"], v=read["v"])


def softmax_then_pv(scores: Array, mask: Mask, v: Array) -> Array:
    """The right way. A NaN in V (memory that is not V's) reaches only queries that see it."""
    out = np.asarray(softmax(scores, mask) @ np.nan_to_num(v), np.float64)
    if np.isnan(v).any():
        out[(mask.astype(float) @ np.isnan(v)) > 0] = np.nan
    return out


def exp_rows(scores: Array, mask: Mask) -> tuple[Array, Array, Array]:
    """Row maxima m, exponentials p (0 where hidden) and sums l of a safe softmax."""
    hidden = np.where(mask, scores, -np.inf)
    m = hidden.max(-1, keepdims=True)
    p = np.exp(hidden - m)
    return m, p, p.sum(-1, keepdims=True)


def tile_sizes(case: Case) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Sizes of key tiles that a kernel may use here, each with the choices of its own it implies.

    A choice is a size where none is asked for, or less than 0: that size, whatever is asked for.
    """
    for own in USUAL_TILES:
        if own < case.n_kv:
            yield own, (-own,) if case.bc else (own, -own)
    if case.bc and case.bc < case.n_kv:
        yield case.bc, USUAL_TILES


def query_tile_sizes(case: Case) -> Iterator[tuple[int, tuple[int, ...]]]:
    """As `tile_sizes`, of query tiles that do not divide n_q."""
    for own in USUAL_TILES:
        if not case.br and own < case.n_q and case.n_q % own:
            yield own, (own,)
    if 0 < case.br < case.n_q and case.n_q % case.br:
        yield case.br, USUAL_TILES
