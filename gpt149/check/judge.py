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

What variants do to a score s, to the sum and to the output is in w_ij, too:

    softcap   (1 - tanh^2) (scale sum_x |q_ix k_jx| + |s|), and |s'| of the capped score s'
    ALiBi     + |slope| n_kv + |s''|: a kernel may count keys from either end
    sink      a key more, of value 0; its distance from a lower maximum is rounded: + (sink - m)
    lse       eps (sum_j p_ij w_ij + sqrt(N_i) + |m_i| + |lse_i|)
    bfloat16  out itself is rounded once more: HALF_EPS |o_ix| on top

An out in bfloat16 none of whose values is too large was cut off, not rounded, and is wrong.

A query from which every key is hidden must give exactly 0, and with no sink an lse of -infinity.
docs/check.md has how SLACK was found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Case

EPS = 2.0**-24
HALF_EPS = 2.0**-8  # of bfloat16
SLACK = 10.0
# Where 2^-126 is reached, a weight and its product with V may vanish; each loses that much at most.
SMALLEST = 2.0**-126
# Where a sink is far above: exp may end at 2^-125, of keys whose maximum is 2^8 too low meanwhile.
LATE = 64.0
CUT, MANY = 2.0**-12, 64  # of a value that was rounded to bfloat16; values
EXACT = 2.0**-160  # allowed of what must be exact: SLACK of it is less than any float32
BLOCK = 1 << 20  # scores that are held at once
CHUNK = 1 << 16  # differences |v_jx - o_ix| that are: they stay in a core's cache

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Expected:
    """What a case should give, and how far off is still right.

    want, rounding: float64 (batch, n_head, n_q, width). rounding: the error that arithmetic
    explains, above 0 everywhere. common: the same for a factor that a row shares,
    (batch, n_head, n_q, 1). lse, lse_rounding: of the log-sum-exp (batch, n_head, n_q). half_out:
    out is bfloat16.
    """

    want: Array
    rounding: Array
    common: Array
    lse: Array
    lse_rounding: Array
    half_out: bool = False

    @property
    def tolerance(self) -> Array:
        """The largest error of each value that is still right."""
        return SLACK * self.rounding


@dataclass(frozen=True)
class Verdict:
    """A kernel's output against what was expected.

    wrong, ratios: of each value, in the shape of the output; whether it is wrong, and its error in
    units of what rounding explains, NaN where the output is. lse_ratios: the same of lse,
    if it was asked for.
    """

    wrong: NDArray[np.bool_]
    ratios: Array
    expected: Expected
    lse_ratios: Array | None = None

    @property
    def passed(self) -> bool:
        return not (self.wrong.any() or self.lse_wrong.any())

    @property
    def lse_wrong(self) -> NDArray[np.bool_]:
        """Which values of lse are wrong."""
        if self.lse_ratios is None:
            return np.zeros(0, dtype=bool)
        return ~(self.lse_ratios <= SLACK)

    @property
    def ratio(self) -> float:
        """The largest error in units of what rounding explains."""
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
    """True where query i sees key j, if kv_begin does not hide it: (n_q, n_kv)."""
    mask = np.ones((case.n_q, case.n_kv), dtype=bool)
    if not case.causal:
        return mask
    shift = case.n_kv - case.n_q
    mask = np.tril(mask, shift)
    return np.triu(mask, shift - case.window + 1) if case.window else mask


@dataclass(frozen=True)
class Variant:
    """What a head's scores, sum and output have besides; the defaults are none.

    first: the first key that each query sees, (n_q,). bias: slope (j - p), (n_q, n_kv), and
    counted: its largest size for a kernel that counts from the other end. sink: -inf is none.
    """

    first: NDArray[np.int_] | None = None
    softcap: float = 0.0
    bias: Array | None = None
    counted: float = 0.0
    sink: float = -np.inf
    half: bool = False  # K and V are bfloat16
    half_out: bool = False

    def rows(self, some: slice) -> Variant:
        """That of some queries."""
        first = None if self.first is None else self.first[some]
        return replace(self, first=first, bias=None if self.bias is None else self.bias[some])


PLAIN = Variant()


def expect(
    case: Case,
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    repeat: int = 0,
) -> Expected:
    """The float64 answer and its rounding, some rows at a time to keep the memory small.

    repeat: the drawing that slopes, sinks and kv_begin are of.
    """
    group = case.n_head // case.n_kv_head
    seen = np.full(case.n_q, case.n_kv)
    if case.causal:
        seen = np.arange(case.n_kv - case.n_q, case.n_kv) + 1
    rows_of = q.shape[:3]
    whole = Expected(
        np.empty((*rows_of, case.width)), np.empty((*rows_of, case.width)), np.empty((*rows_of, 1)),
        np.empty(rows_of), np.empty(rows_of), case.half,
    )  # fmt: skip
    rows = max(1, BLOCK // case.n_kv)
    vectors = case.vectors(repeat)
    for b, h in np.ndindex(case.batch, case.n_head):
        variant = _variant(case, b, h, vectors)
        for i in range(0, case.n_q, rows):
            some = slice(i, i + rows)
            kv = (k[b, h // group], v[b, h // group])
            part = attend(
                q[b, h, some], *kv, seen[some], case.scale_value, variant=variant.rows(some)
            )
            for name in ("want", "rounding", "common", "lse", "lse_rounding"):
                getattr(whole, name)[b, h, some] = getattr(part, name)
    return whole


def _variant(case: Case, b: int, h: int, vectors: dict[str, NDArray[Any]]) -> Variant:
    """That of a head of the case."""
    own = np.arange(case.n_q) + case.n_kv - case.n_q
    variant = Variant(softcap=case.softcap, half=case.half_kv, half_out=case.half)
    if case.window or case.kv_begin:
        begin = vectors["kv_begin"][b] if case.kv_begin else 0
        first = own - case.window + 1 if case.window else np.zeros_like(own)
        variant = replace(variant, first=np.maximum(first, begin))
    if case.alibi:
        slope = float(vectors["alibi_slopes"][h])
        bias = slope * (np.arange(case.n_kv) - own[:, None]).astype(np.float64)
        variant = replace(variant, bias=bias, counted=abs(slope) * case.n_kv)
    if case.sinks:
        variant = replace(variant, sink=float(vectors["sinks"][h]))
    return variant


def attend(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    seen: NDArray[np.int_],
    scale: float,
    *,
    variant: Variant = PLAIN,
) -> Expected:
    """Attention of some queries (rows, head_dim) of one head.

    seen: how many of the keys (n, head_dim), from the first on, each query sees.
    """
    n = int(seen.max())
    k, v = k[:n], v[:n]
    q64, k64, v64 = (t.astype(np.float64) for t in (q, k, v))
    scores = scale * (q64 @ k64.T)
    weight = abs(scale) * (np.abs(q64) @ np.abs(k64).T)
    weight += np.abs(scores)
    mask = np.arange(n) < seen[:, None]
    if variant.first is not None:
        mask &= np.arange(n) >= variant.first[:, None]
    by_half = weight  # what rounding of q to bfloat16 moves
    if variant.softcap:
        capped = np.tanh(scores / variant.softcap)
        scores, by_half = variant.softcap * capped, (1 - capped**2) * weight
        weight = by_half + np.abs(scores)
    if variant.bias is not None:
        scores = scores + variant.bias[:, :n]
        weight = weight + variant.counted + np.abs(scores)
    if variant.sink > -np.inf:
        m = np.where(mask, scores, -np.inf).max(1, initial=-np.inf, keepdims=True)
        far = np.where(np.isfinite(m), np.maximum(variant.sink - m, 0), 0)
        weight = weight + far
        scores, weight, mask = (
            np.concatenate((t, np.full((len(q), 1), one)), 1)
            for t, one in ((scores, variant.sink), (weight, 0.0), (mask, True))
        )
        by_half = np.concatenate((by_half, np.zeros((len(q), 1))), 1)
        v, v64 = (np.concatenate((t, np.zeros((1, t.shape[1]), t.dtype))) for t in (v, v64))
    weight = weight + 1
    if variant.half:
        weight = weight + HALF_EPS / SLACK / EPS * (by_half + 1)
    empty = ~mask.any(1)
    p, lse, m = _softmax(scores, mask)
    want = p @ v64
    size = np.abs(v64)
    weight *= p
    lost = SMALLEST * (1 if variant.sink == -np.inf else LATE) * (1 + size).sum(0)
    walk = np.sqrt((p > EPS).sum(1, keepdims=True))
    eps = EPS + variant.half * HALF_EPS / SLACK
    rounding = EPS * (_spread(weight, v, want) + walk * np.abs(want)) + eps * (p @ size) + lost
    if variant.half_out:
        rounding += HALF_EPS / SLACK * np.abs(want)
    hidden = empty if variant.sink == -np.inf else mask.sum(1) == 1  # but for the sink
    rounding[hidden] = EXACT
    common = EPS * weight.sum(1, keepdims=True)
    of_lse = common[:, 0] + EPS * (walk[:, 0] + np.abs(m) + np.abs(lse))
    of_lse[empty] = EXACT
    return Expected(want, rounding, common, lse, of_lse)


def _softmax(scores: Array, mask: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Weights, the log of their sum and the maximum, of rows; 0 and -inf where all is hidden."""
    scores = np.where(mask, scores, -np.inf)
    m = scores.max(1, initial=-np.inf)
    p = np.exp(scores - np.where(np.isfinite(m), m, 0)[:, None])
    l = p.sum(1)
    with np.errstate(divide="ignore"):
        return p / np.where(l > 0, l, 1)[:, None], m + np.log(l), m


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


def judge(
    out: NDArray[np.float32], expected: Expected, lse: NDArray[np.float32] | None = None
) -> Verdict:
    """Compare an output, and lse if there is one, with what was expected, in the same shapes."""
    want, most = expected.want, SLACK * expected.common
    with np.errstate(invalid="ignore"):
        off = out.astype(np.float64) - want
        factor = np.clip(_common_factor(off, expected), -most, most)
        error = np.minimum(np.abs(off), np.abs(off - factor * want))
        ratios = error / expected.rounding
        wrong = ~(ratios <= SLACK)
        if expected.half_out:
            wrong |= cut_off(out.astype(np.float64), want)
        return Verdict(wrong, ratios, expected, _lse_ratios(lse, expected))


def cut_off(out: Array, want: Array) -> NDArray[np.bool_]:
    """Values of out, in bfloat16, that are too small as all are, or all of their dim: cut off, not
    rounded.

    Rounding makes half of them too large: of MANY, that none is, is no chance.
    """
    size = np.abs(want)
    off = np.abs(out) - size
    rounded = (np.abs(off) > CUT * size) & (size > SMALLEST)
    cut = rounded & (off < 0)
    rows = tuple(range(out.ndim - 1))
    by_dim = np.where((cut == rounded).all(rows), cut.sum(rows), 0)
    all_of_them = np.where((cut == rounded).all(), cut.sum(), 0)
    some: NDArray[np.bool_] = cut & (np.maximum(by_dim, all_of_them) >= MANY)
    return some


def _lse_ratios(lse: NDArray[np.float32] | None, expected: Expected) -> Array | None:
    if lse is None:
        return None
    off = np.abs(lse - expected.lse)
    return np.where(lse == expected.lse, 0, off / expected.lse_rounding)


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
