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


@dataclass(frozen=True)
class Setup:
    """softmax(scale Q K^T + mask) V of a case, in steps.

    q (batch, n_head, n_q, d); k, v (batch, n_kv_head, n_kv, d); kv_head (n_head,): whose keys a
    query head reads; mask (n_q, n_kv): True is visible. combine: scores (batch, n_head, n_q, n_kv),
    mask and v (batch, n_head, n_kv, d) to out. after: steps on out, in turn.
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

    def predict(self) -> Array:
        """The output of this computation, float64 (batch, n_head, n_q, d)."""
        with np.errstate(all="ignore"):
            k, v = self.k[:, self.kv_head], self.v[:, self.kv_head]
            scores = self.scale * (self.q @ k.swapaxes(-1, -2))
            out = self.combine(scores, self.mask, v)
            for step in self.after:
                out = step(out)
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
    return Setup(case, q, k, v, kv_head, case.scale_value, visible(case), softmax_then_pv)


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
