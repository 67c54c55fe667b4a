"""Asking a kernel with inputs of one's own, on the shape and the layout of a case."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..cases import Case
from ..judge import visible
from ..observe import Bench

Array = NDArray[np.float64]
F32 = NDArray[np.float32]


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

    def out(self, *, q: F32 | None = None, k: F32 | None = None, v: F32 | None = None) -> Array:
        """What the kernel gives for these, or for the case's own: (batch, n_head, n_q, head_dim).

        Raises:
            Illegible: it does not return, or gives NaN or infinity.
        """
        own = self.drawn
        out = self.bench.ask(
            self.case,
            *(own[i] if given is None else given for i, given in enumerate((q, k, v))),
        )
        if out is None or not np.isfinite(out).all():
            raise Illegible
        return out.astype(np.float64)

    def weights(self, *, q: F32 | None = None, k: F32 | None = None) -> Array:
        """The attention matrix P (batch, n_head, n_q, n_kv): slices of the identity as V.

        Small weights are as exact as large ones: each stands alone in its value of out.

        Raises:
            Illegible: as `out`.
        """
        case, columns = self.case, []
        for start in range(0, case.n_kv, case.head_dim):
            v = np.zeros_like(self.drawn[2])
            width = min(case.head_dim, case.n_kv - start)
            v[:, :, start : start + width, :width] = np.eye(width, dtype=np.float32)
            columns.append(self.out(q=q, k=k, v=v)[..., :width])
        return np.concatenate(columns, axis=3)

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
        return self.case.scale_value * (q @ k[:, self.kv_head].swapaxes(-1, -2))
