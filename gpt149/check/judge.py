"""Right means: as close to float64 as float32 rounding explains, value by value.

A score s_ij is a sum of head_dim products that float32 rounds, then an argument of exp. With eps =
2^-24, its error is some eps w_ij, where w_ij = scale sum_x |q_ix k_jx| + |s_ij| + 1. An error of
s_ij moves o_ix by p_ij (v_jx - o_ix) times as much. Products with V round relative to their size,
and of the N_i additions that count (p_ij > eps) each rounds the sum so far: a random walk. So
`rounding` of a value o_ix is

    eps (sum_j p_ij w_ij |v_jx - o_ix| + sum_j p_ij |v_jx| + sqrt(N_i) |o_ix|)

and a result passes within SLACK times that. NaN fails. A factor that a whole row of out shares is
no error within SLACK eps sum_j p_ij w_ij: where a kernel computes scores twice, for the sum and for
V, they are rounded in two ways, and the weights do not quite add up to 1.

Where K and V are bfloat16, Q and the weights p_ij may be rounded to it as well: CPUs multiply pairs
of them fast. That is at most HALF_EPS of each, and adds

    HALF_EPS (sum_j p_ij w_ij |v_jx - o_ix| + sum_j p_ij |v_jx|)

to what is allowed, once, for it is a bound and no typical error.

docs/check.md has how SLACK was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cases import Case

EPS = 2.0**-24
HALF_EPS = 2.0**-9  # of bfloat16
SLACK = 10.0
# Where 2^-126 is reached, a weight and its product with V may vanish; each loses that much at most.
SMALLEST = 2.0**-126
BLOCK = 1 << 20  # scores that are held at once
CHUNK = 1 << 16  # differences |v_jx - o_ix| that are: they stay in a core's cache

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Expected:
    """What a case should give, and how far off is still right.

    want, rounding: float64 (batch, n_head, n_q, head_dim). rounding: the error that arithmetic
    explains, above 0 everywhere. common: the same for a factor that a row shares,
    (batch, n_head, n_q, 1).
    """

    want: Array
    rounding: Array
    common: Array

    @property
    def tolerance(self) -> Array:
        """The largest error of each value that is still right."""
        return SLACK * self.rounding


@dataclass(frozen=True)
class Verdict:
    """A kernel's output against what was expected.

    wrong, ratios: of each value, in the shape of the output; whether it is wrong, and its error in
    units of what float32 rounding explains, NaN where the output is.
    """

    wrong: NDArray[np.bool_]
    ratios: Array
    expected: Expected

    @property
    def passed(self) -> bool:
        return not self.wrong.any()

    @property
    def ratio(self) -> float:
        """The largest error in units of what float32 rounding explains."""
        return float(self.ratios.max())

    @property
    def error(self) -> float:
        """The error of the value that has the largest ratio."""
        return self.ratio * self._rounding

    @property
    def tolerance(self) -> float:
        """What was allowed for that value."""
        return SLACK * self._rounding

    @property
    def _rounding(self) -> float:
        return float(self.expected.rounding.flat[self.ratios.argmax()])


def visible(case: Case) -> NDArray[np.bool_]:
    """True where query i sees key j: (n_q, n_kv)."""
    mask = np.ones((case.n_q, case.n_kv), dtype=bool)
    return np.tril(mask, case.n_kv - case.n_q) if case.causal else mask


def expect(
    case: Case, q: NDArray[np.float32], k: NDArray[np.float32], v: NDArray[np.float32]
) -> Expected:
    """The float64 answer and its rounding, some rows at a time to keep the memory small."""
    group = case.n_head // case.n_kv_head
    seen = np.full(case.n_q, case.n_kv)
    if case.causal:
        seen = np.arange(case.n_kv - case.n_q, case.n_kv) + 1
    common = np.empty((*q.shape[:3], 1))
    whole = Expected(np.empty(q.shape), np.empty(q.shape), common)
    rows = max(1, BLOCK // case.n_kv)
    for b in range(case.batch):
        for h in range(case.n_head):
            for i in range(0, case.n_q, rows):
                some = (b, h, slice(i, i + rows))
                kv = (k[b, h // group], v[b, h // group])
                part = attend(q[some], *kv, seen[some[2]], case.scale_value, half=case.half_kv)
                whole.want[some] = part.want
                whole.rounding[some] = part.rounding
                whole.common[some] = part.common
    return whole


def attend(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    seen: NDArray[np.int_],
    scale: float,
    *,
    half: bool = False,
) -> Expected:
    """Attention of some queries (rows, head_dim) of one head.

    seen: how many of the keys (n, head_dim), from the first on, each query sees.
    half: keys and values are bfloat16 for the kernel.
    """
    n = int(seen.max())
    k, v = k[:n], v[:n]
    q64, k64, v64 = (t.astype(np.float64) for t in (q, k, v))
    scores = scale * (q64 @ k64.T)
    p = softmax(scores, np.arange(n) < seen[:, None])
    want = p @ v64
    size = np.abs(v64)
    weight = abs(scale) * (np.abs(q64) @ np.abs(k64).T)
    weight += np.abs(scores)
    weight += 1
    weight *= p
    lost = SMALLEST * (1 + size).sum(0)
    walk = np.sqrt((p > EPS).sum(1, keepdims=True)) * np.abs(want)
    eps = EPS + half * HALF_EPS / SLACK
    rounding = eps * (_spread(weight, v, want) + p @ size) + EPS * walk + lost
    return Expected(want, rounding, eps * weight.sum(1, keepdims=True))


def _spread(weight: Array, v: NDArray[np.float32], o: Array) -> NDArray[np.float32]:
    """sum_j weight_ij |v_jx - o_ix|; float32 is good enough here, and twice as fast."""
    w, o32 = weight.astype(np.float32), o.astype(np.float32)[:, None]
    n, d = v.shape
    keys = min(n, max(1, CHUNK // d))
    rows = max(1, CHUNK // (keys * d))
    total = np.zeros(o.shape, np.float32)
    for i in range(0, len(o), rows):
        for j in range(0, n, keys):
            off = v[j : j + keys] - o32[i : i + rows]
            np.abs(off, out=off)
            total[i : i + rows] += np.einsum("ij,ijx->ix", w[i : i + rows, j : j + keys], off)
    return total


def judge(out: NDArray[np.float32], expected: Expected) -> Verdict:
    """Compare an output with what was expected, in the same shape."""
    want, most = expected.want, SLACK * expected.common
    with np.errstate(invalid="ignore"):
        off = out.astype(np.float64) - want
        factor = np.clip(_common_factor(off, expected), -most, most)
        error = np.minimum(np.abs(off), np.abs(off - factor * want))
        ratios = error / expected.rounding
        return Verdict(~(ratios <= SLACK), ratios, expected)


def _common_factor(off: Array, expected: Expected) -> Array:
    """Of each row the f for which sum_x |off_x - f want_x| / rounding_x is least.

    That is a weighted median of off / want, which a few wrong values do not move.
    """
    fits = np.isfinite(off) & (expected.want != 0)
    relative = np.divide(off, expected.want, out=np.zeros_like(off), where=fits)
    order = relative.argsort(-1)
    weight = np.take_along_axis(np.abs(expected.want) / expected.rounding, order, -1).cumsum(-1)
    middle = (weight < weight[..., -1:] / 2).sum(-1, keepdims=True)
    return np.take_along_axis(relative, np.take_along_axis(order, middle, -1), -1)


def softmax(scores: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Over the last axis, in the dtype of the scores; hidden keys get 0."""
    scores = np.where(mask, scores, scores.dtype.type(-np.inf))
    p = np.exp(scores - scores.max(-1, keepdims=True))
    normalised: NDArray[np.floating] = p / p.sum(-1, keepdims=True)
    return normalised
