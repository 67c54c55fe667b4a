"""Right means: as close to float64 as float32 arithmetic allows at this size, with some room.

With err32 the error of a plain unfused float32 attention (BLAS products) on the same inputs, a
result passes when err <= 4 err32 + 16 eps max(P |V|), eps = 2^-24: relative to what rounding does
here, never a fixed tolerance. NaN fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cases import Case

EPS = 2.0**-24
SLACK_ERR32 = 4.0
SLACK_ULP = 16.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Expected:
    """What a case should give, and how far off is still right.

    want: float64 (batch, n_head, n_q, head_dim). err32: a BLAS attention's largest error.
    """

    want: Array
    err32: float
    tolerance: float


@dataclass(frozen=True)
class Verdict:
    """A kernel's output against what was expected. `wrong` marks each value, same shape."""

    wrong: NDArray[np.bool_]
    error: float  # the largest; NaN where the output has NaN
    expected: Expected

    @property
    def passed(self) -> bool:
        return not self.wrong.any()

    @property
    def ratio(self) -> float:
        """Error in units of what float32 rounding explains."""
        return self.error / max(self.expected.tolerance / SLACK_ERR32, EPS)


def visible(case: Case) -> NDArray[np.bool_]:
    """True where query i sees key j: (n_q, n_kv)."""
    mask = np.ones((case.n_q, case.n_kv), dtype=bool)
    return np.tril(mask, case.n_kv - case.n_q) if case.causal else mask


def expect(
    case: Case, q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32]
) -> Expected:
    """The float64 answer and the bound, a head at a time to keep the memory small."""
    mask = visible(case)
    group = case.n_head // case.n_kv_head
    want = np.empty(q.shape)
    err32 = size = 0.0
    for b in range(case.batch):
        for h in range(case.n_head):
            one = (q[b, h], k[b, h // group], v[b, h // group])
            q64, k64, v64 = (t.astype(np.float64) for t in one)
            p = softmax(case.scale_value * (q64 @ k64.T), mask)
            want[b, h] = p @ v64
            size = max(size, float((p @ np.abs(v64)).max()))
            p32 = softmax(np.float32(case.scale_value) * (one[0] @ one[1].T), mask)
            err32 = max(err32, float(np.abs(p32 @ one[2] - want[b, h]).max()))
    return Expected(want, err32, SLACK_ERR32 * err32 + SLACK_ULP * EPS * size)


def judge(out: NDArray[np.float32], expected: Expected) -> Verdict:
    """Compare an output (batch, n_head, n_q, head_dim) with what was expected."""
    with np.errstate(invalid="ignore"):
        error = np.abs(out.astype(np.float64) - expected.want)
        wrong = ~(error <= expected.tolerance)
    return Verdict(wrong, float(error.max()), expected)


def softmax(scores: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Over the last axis, in the dtype of the scores; hidden keys get 0."""
    scores = np.where(mask, scores, scores.dtype.type(-np.inf))
    p = np.exp(scores - scores.max(-1, keepdims=True))
    normalised: NDArray[np.floating] = p / p.sum(-1, keepdims=True)
    return normalised
