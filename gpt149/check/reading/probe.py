"""Asking a kernel with inputs of one's own, on the shape and the layout of a case."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arena import place
from ..cases import Case
from ..judge import visible
from ..observe import Bench

Array = NDArray[np.float64]
F32 = NDArray[np.float32]
Place = tuple[int, int]  # (batch, head)

SAME = 1e-4  # relative: dims that differ by less are alike


class Illegible(Exception):
    """The kernel did not answer, or not with numbers."""


@dataclass(frozen=True)
class Probe:
    """A kernel on a case's shape, and the case's own q (batch, n_head, n_q, head_dim), k and v."""

    bench: Bench
    case: Case

    @cached_property
    def drawn(self) -> tuple[F32, F32, F32]:
        return self.case.draw()

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """True where a query may see a key: (n_q, n_kv)."""
        return visible(self.case)

    @property
    def kv_head(self) -> NDArray[np.intp]:
        """The key head of each query head: (n_head,)."""
        return np.arange(self.case.n_head) // (self.case.n_head // self.case.n_kv_head)

    @cached_property
    def memory(self) -> F32:
        """What lies in the arena when it asks: inputs in their places (`arena.place`), and zeros.

        It goes on for as long as float32 tensors would, where the case's are bfloat16.
        """
        placed = place(self.case)
        ends = (p.start + replace(p, half=False).span for p in placed.values())
        memory = np.zeros(max(ends), np.float32)
        for name, tensor in zip(("q", "k", "v"), self.drawn, strict=True):
            placed[name].put(tensor, memory)
        return memory

    def out(
        self,
        *,
        q: F32 | None = None,
        k: F32 | None = None,
        v: F32 | None = None,
        **vectors: NDArray[Any],
    ) -> Array:
        """What the kernel gives for these, or for the case's own: (batch, n_head, n_q, head_dim).

        vectors: of alibi_slopes, sinks and kv_begin.

        Raises:
            Illegible: it does not return, or gives NaN or infinity.
        """
        own = self.drawn
        out = self.bench.ask(
            self.case,
            *(own[i] if given is None else given for i, given in enumerate((q, k, v))),
            vectors=vectors,
        )
        if out is None or not np.isfinite(out).all():
            raise Illegible
        return out.astype(np.float64)

    @cached_property
    def by_dim(self) -> Array:
        """Out where a value is the same in every dim: so out must be."""
        rng = np.random.default_rng(self.case.seed)
        v = np.empty_like(self.drawn[2])
        v[:] = rng.uniform(1, 2, (*v.shape[:3], 1))
        return self.out(q=self.gentle, v=v)

    @cached_property
    def dims(self) -> NDArray[np.intp]:
        """The dims that go from V to out as most do: through these P is read."""
        written = np.where(self.by_dim == 0, np.nan, self.by_dim)  # zeros are never right
        written[np.isnan(written).all(3)] = 0
        most = np.nanmedian(written, axis=3, keepdims=True)
        like_most = np.abs(self.by_dim - most) < SAME * np.abs(most).max()
        # A dim is odd if it is so in most rows; odd rows are another matter.
        like_most = like_most.mean((0, 1, 2)) > 0.5
        return np.flatnonzero(like_most)

    def slices(self) -> Iterator[tuple[slice, F32]]:
        """Keys, and as V the identity for them, in the dims that can be read through.

        Raises:
            Illegible: there are none.
        """
        if not len(self.dims):
            raise Illegible
        for start in range(0, self.case.n_kv, len(self.dims)):
            v = np.zeros_like(self.drawn[2])
            width = min(len(self.dims), self.case.n_kv - start)
            v[:, :, np.arange(start, start + width), self.dims[:width]] = 1
            yield slice(start, start + width), v

    def weights(self, *, q: F32 | None = None, k: F32 | None = None) -> Array:
        """The attention matrix P (batch, n_head, n_q, n_kv): slices of the identity as V.

        Small weights are as exact as large ones: each stands alone in its value of out.

        Raises:
            Illegible: as `out`.
        """
        case = self.case
        p = np.empty((case.batch, case.n_head, case.n_q, case.n_kv))
        for keys, v in self.slices():
            p[..., keys] = self.out(q=q, k=k, v=v)[..., self.dims[: keys.stop - keys.start]]
        return p

    @cached_property
    def gentle(self) -> F32:
        """The case's own q, smaller: scores of the size of 1, so that all rows of out differ."""
        size = max(1e-6, float(np.std(self.scores)))
        smaller: F32 = (self.drawn[0] / np.float32(size)).astype(np.float32)
        return smaller

    @cached_property
    def flat(self) -> Array:
        """P where all scores are 0: what the mask and the sum do, whatever the scores are."""
        return self.weights(q=np.zeros_like(self.drawn[0]))

    @cached_property
    def own(self) -> Array:
        """P for the case's own q and k."""
        return self.weights()

    @cached_property
    def scores(self) -> Array:
        """The right scores of the case's own q and k: (batch, n_head, n_q, n_kv)."""
        q, k = (t.astype(np.float64) for t in self.drawn[:2])
        scores: Array = self.case.scale_value * (q @ k[:, self.kv_head].swapaxes(-1, -2))
        return scores
