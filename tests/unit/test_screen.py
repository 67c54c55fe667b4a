"""csrc/engine/screen.h: every logit lies within its bounds, which are tight, and rule most out."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

SOURCE = """
#include "engine/screen.h"
constexpr uint64_t STREAM = 149;
extern "C" int lanes() { return LANES; }
extern "C" void gumbels(uint64_t stream, int n, double *g) {
    for (int i = 0; i < n; i++)
        g[i] = gumbel(stream, i);
}
#if defined(FAST_PAIRS)
using Halved = bfloat16;
#else
using Halved = float;
#endif
template <typename T, typename X>
static bool screen_of(const float *w, int in, int out, const float *x, Noise noise, int known,
                      int k, int n_threads, float *lower, float *upper, float *thresholds,
                      float *logits) {
    Pool pool;
    Matrix head;
    Screen screen;
    if (!pack<T>(head, pool, w, in, out, 1, in, n_threads)) return false;
    if (!screen.pack(pool, head, n_threads)) return false;
    // Two rows: the first is another one, with another noise.
    std::vector<float> other(x, x + in);
    std::reverse(other.begin(), other.end());
    const Noise noises[] = {{noise.stream + 1, 0.5}, noise};
    if (!screen.reserve_rows(2, n_threads)) return false;
    screen.keep(0, other.data(), n_threads - 1);
    screen.keep(1, x, 0);
    for (int thread = 0; thread < n_threads; thread++)
        screen.bound(2, noises, known, thread, n_threads);
    for (int thread = 0; thread < n_threads; thread++) {
        screen.find_least(1, k, thread);
        thresholds[thread] = screen.least[1];
    }
    std::copy_n(screen.lower.get() + head.panels(), head.panels(), lower);
    std::copy_n(screen.upper.get() + head.panels(), head.panels(), upper);
    Kept<X> kept;
    if (!kept.reserve(1, in)) return false;
    kept.keep(0, x, in);
    multiply<T>({head, 0, logits, out, 1, REPLACE, RELU, Share(head.panels(), 0, 1)}, kept);
    return true;
}
extern "C" bool screen(int type, const float *w, int in, int out, const float *x,
                       double temperature, int known, int k, int n_threads, float *lower,
                       float *upper, float *thresholds, float *logits) {
    const auto of = type == FLOAT32 ? screen_of<float, float> : screen_of<bfloat16, Halved>;
    return of(w, in, out, x, {STREAM, temperature}, known, k, n_threads, lower, upper, thresholds,
              logits);
}
"""
TYPES = {"float32": 0, "bf16": 1}

F32 = NDArray[np.float32]


@dataclass
class Screened:
    """logits: (out,), and with their noise. lower, upper: of a panel's largest with its noise."""

    logits: F32
    noisy: NDArray[np.float64]
    lower: F32
    upper: F32
    threshold: float
    lanes: int

    def left(self) -> set[int]:
        return set(np.flatnonzero(self.upper >= self.threshold).tolist())


def screen(
    library: ctypes.CDLL,
    w: F32,
    x: F32,
    k: int = 1,
    known: int | None = None,
    dtype: str = "bf16",
    temperature: float = 0.0,
) -> Screened:
    """The bounds of w x: w (out, in), x (in,)."""
    out, n_in = w.shape
    lanes, n_threads = library.lanes(), 3
    panels = -(-out // lanes)
    lower, upper, thresholds, logits = (
        np.full(n, np.nan, np.float32) for n in (panels, panels, n_threads, out)
    )
    at = [ctypes.c_void_p(a.ctypes.data) for a in (w, x, lower, upper, thresholds, logits)]
    known = out if known is None else known
    assert library.screen(
        TYPES[dtype], at[0], n_in, out, at[1], ctypes.c_double(temperature), known, k, n_threads,
        *at[2:],
    )  # fmt: skip
    assert np.unique(thresholds).size == 1
    noise = np.empty(out)
    library.gumbels(ctypes.c_uint64(149), out, ctypes.c_void_p(noise.ctypes.data))
    noisy = logits + temperature * noise
    return Screened(logits, noisy, lower, upper, float(thresholds[0]), lanes)


def halved(x: F32) -> F32:
    """Without what bfloat16 does not hold."""
    halves: F32 = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    return halves


def normal(*shape: int) -> F32:
    return np.random.default_rng(149).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("n_in", "out", "known", "k"),
    [
        (768, 3000, 3000, 1),
        (768, 3000, 2990, 40),
        (51, 333, 300, 3),
        (6, 17, 17, 1),
        (300, 5, 2, 1),
    ],
)
@pytest.mark.parametrize("largest", [1, 300], ids=["even", "uneven"])
def test_every_logit_lies_within_its_bounds(
    library: ctypes.CDLL, n_in: int, out: int, known: int, k: int, dtype: str, largest: float
) -> None:
    w, x = normal(out, n_in), normal(n_in + 1)[1:]
    w[:, n_in // 3] *= largest**0.5
    x[n_in // 2] *= largest
    if dtype == "bf16":
        x = halved(x)
    s = screen(library, w, x, k, known, dtype)
    for p, (lower, upper) in enumerate(zip(s.lower, s.upper, strict=True)):
        most = s.logits[p * s.lanes : min(known, (p + 1) * s.lanes)].max(initial=-np.inf)
        assert lower <= most <= upper
    likeliest = np.argsort(-s.logits[:known])[:k]
    if k < s.lower.size:
        assert s.threshold <= s.logits[likeliest].min()
        assert {int(i) // s.lanes for i in likeliest} <= s.left()
    if (n_in, k, largest) == (768, 1, 1):
        assert len(s.left()) < 0.1 * s.lower.size


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("temperature", [1e-320, 1e-3, 0.8, 100.0, 1e30])
def test_with_its_noise_too(library: ctypes.CDLL, temperature: float, dtype: str) -> None:
    w, x = normal(3000, 768) / np.float32(28), halved(normal(769)[1:])  # logits of a deviation of 1
    s = screen(library, w, x, known=2990, dtype=dtype, temperature=temperature)
    for p, (lower, upper) in enumerate(zip(s.lower, s.upper, strict=True)):
        most = s.noisy[p * s.lanes : min(2990, (p + 1) * s.lanes)].max(initial=-np.inf)
        assert lower <= most <= upper
    assert int(s.noisy[:2990].argmax()) // s.lanes in s.left()
    assert len(s.left()) < 0.1 * s.lower.size


@pytest.mark.parametrize("temperature", [1e-320, 0.8, 1e30])
def test_ties_are_left_to_the_noise(library: ctypes.CDLL, temperature: float) -> None:
    """All logits are 0 or, at this temperature, nothing beside the noise: roundings decide."""
    w, x = np.zeros((3000, 40), np.float32), np.zeros(40, np.float32)
    s = screen(library, w, x, temperature=temperature)
    assert int(s.noisy.argmax()) // s.lanes in s.left()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("x", ["along the error", "at the largest error"])
def test_a_bound_may_be_reached(library: ctypes.CDLL, x: str, dtype: str) -> None:
    """The negative control of the test above: with less, it would fail."""
    w = halved(normal(1, 64))
    scale = np.abs(w).max() / 127
    error = (w - np.rint(w / scale) * scale)[0]
    worst = np.where(np.abs(error) == np.abs(error).max(), error, 0)
    s = screen(library, w, halved(error if x == "along the error" else worst), dtype=dtype)
    middle, half = (s.lower + s.upper) / 2, (s.upper - s.lower) / 2
    assert 0.95 * half < np.abs(s.logits - middle) <= half


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_never_ruled_out(library: ctypes.CDLL, odd: float) -> None:
    w, x = normal(100, 40), normal(40)
    clean = screen(library, w, x)
    w[37, 5] = odd
    panel = 37 // library.lanes()
    for known in (37, 100):  # as in the whole product, what cannot be chosen is looked at too
        s = screen(library, w, x, known=known)
        assert (s.lower[panel], s.upper[panel]) == (-np.inf, np.inf)
    others = [p for p in range(s.lower.size) if p != panel]
    np.testing.assert_array_equal(s.upper[others], clean.upper[others])
    x[3] = odd
    assert (screen(library, w, x).upper == np.inf).all()


def test_rows_and_inputs_of_zeros(library: ctypes.CDLL) -> None:
    w = normal(100, 40)
    w[50] = 0
    s = screen(library, w, np.zeros(40, np.float32))
    assert (s.logits == 0).all()
    assert (s.lower == 0).all()
    assert (s.upper == 0).all()
