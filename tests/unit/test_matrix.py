"""csrc/engine/matrix.h: products with float32 and bfloat16 weights against numpy's."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

SOURCE = """
#include "engine/matrix.h"
#if defined(FAST_PAIRS)
extern "C" bool pairs() { return true; }
using Halved = bfloat16;
#else
extern "C" bool pairs() { return false; }
using Halved = float;
#endif
template <typename T, typename X>
static bool multiply_by(bool transposed, const float *w, int in, int out, const float *bias,
                        const float *x, int rows, float *y, float *w_row, int n_threads) {
    Pool pool;
    Matrix m;
    Kept<X> kept;
    const int in_stride = transposed ? out : 1, out_stride = transposed ? 1 : in;
    if (!pack<T>(m, pool, w, in, out, in_stride, out_stride, n_threads)) return false;
    if (!kept.reserve(rows, in)) return false;
    std::memset(kept.values.get(), 0xff, rows * kept.width * sizeof(X)); // NaN: of other products
    std::copy_n(bias, out, m.bias.get());
    for (int r = 0; r < rows; r++)
        kept.keep(r, x + r * in, in);
    for (int thread = 0; thread < n_threads; thread++)
        multiply<T>({m, 0, y, out, rows, ADD, RELU, Share(m.panels(), thread, n_threads)}, kept);
    row<T>(m, out - 1, w_row);
    return true;
}
extern "C" bool multiplied(int type, bool transposed, const float *w, int in, int out,
                           const float *bias, const float *x, int rows, float *y, float *w_row,
                           int n_threads) {
    const auto by = type == FLOAT32 ? multiply_by<float, float> : multiply_by<bfloat16, Halved>;
    return by(transposed, w, in, out, bias, x, rows, y, w_row, n_threads);
}
"""
TYPES = {"float32": 0, "bf16": 1}

F32 = NDArray[np.float32]


def rounded(x: F32) -> F32:
    """To bfloat16, to nearest, ties to even."""
    bits = x.view(np.uint32)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    halves: F32 = bits.view(np.float32)
    return halves


@pytest.mark.parametrize("transposed", [False, True], ids=["(out, in)", "(in, out)"])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rows", "n_in", "out"),
    [
        (1, 1, 1),
        (1, 514, 300),
        (2, 51, 77),
        (3, 64, 200),
        (5, 9, 48),
        (7, 34, 16),
        (9, 128, 16),
        (13, 1030, 131),
        (31, 66, 65),
        (65, 130, 100),
    ],
)
def test_products_add_to_what_is_there(
    library: ctypes.CDLL, dtype: str, transposed: bool, rows: int, n_in: int, out: int
) -> None:
    rng = np.random.default_rng(149)
    w, x, bias, before = (
        rng.normal(size=s).astype(np.float32) for s in ((out, n_in), (rows, n_in), out, (rows, out))
    )
    stored, y, w_row = np.ascontiguousarray(w.T if transposed else w), before.copy(), w[0].copy()
    at = [ctypes.c_void_p(a.ctypes.data) for a in (stored, bias, x, y, w_row)]
    assert library.multiplied(
        TYPES[dtype], transposed, at[0], n_in, out, at[1], at[2], rows, at[3], at[4], 2
    )
    if dtype == "bf16":
        w = rounded(w)
        x = rounded(x) if library.pairs() else x
    np.testing.assert_array_equal(w_row, w[-1])
    want = before + bias + x.astype(np.float64) @ w.T.astype(np.float64)
    np.testing.assert_allclose(y, want, rtol=0, atol=2e-6 * np.sqrt(n_in) * np.abs(want).max())


@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_is_the_same_to_the_bit_among_any_others(library: ctypes.CDLL, dtype: str) -> None:
    """So that a sample is what it is alone, however many are decoded at once."""
    rng = np.random.default_rng(149)
    w, x = (rng.normal(size=s).astype(np.float32) for s in ((147, 203), (70, 203)))
    _, alone = zip(*(packed(library, dtype, w, row[None]) for row in x), strict=True)
    for rows in (2, 3, 4, 5, 6, 7, 8, 9, 16, 23, 64, 70):
        _, together = packed(library, dtype, w, x[:rows])
        np.testing.assert_array_equal(together, np.concatenate(alone[:rows]))


def test_nan_and_infinity_stay(library: ctypes.CDLL) -> None:
    w, bias = np.eye(8, dtype=np.float32), np.zeros(8, np.float32)
    x = np.zeros((3, 8), np.float32)
    x[1, 2], x[2, 5] = np.nan, np.inf
    for code in TYPES.values():
        y, w_row = np.zeros((3, 8), np.float32), np.empty(8, np.float32)
        at = [ctypes.c_void_p(a.ctypes.data) for a in (w, bias, x, y, w_row)]
        assert library.multiplied(code, False, at[0], 8, 8, at[1], at[2], 3, at[3], at[4], 1)
        assert np.isfinite(y[0]).all()
        assert np.isnan(y[1, 2])
        assert y[2, 5] == np.inf or np.isnan(y[2, 5])


def packed(library: ctypes.CDLL, dtype: str, w: F32, x: F32) -> tuple[F32, F32]:
    """The last of w (out, in) as it is kept, and relu(x @ w.T) of x (rows, in)."""
    rows, (out, n_in) = len(x), w.shape
    y, row, bias = np.zeros((rows, out), np.float32), w[-1].copy(), np.zeros(out, np.float32)
    at = [ctypes.c_void_p(a.ctypes.data) for a in (w, bias, x, y, row)]
    assert library.multiplied(TYPES[dtype], False, at[0], n_in, out, at[1], at[2], rows, *at[3:], 1)
    return row, y


@pytest.mark.parametrize("largest", [1.5, 2.0**-60, 2.0**90, 0.0])
@pytest.mark.parametrize("dtype", TYPES)
def test_small_weights_beside_large_ones(library: ctypes.CDLL, dtype: str, largest: float) -> None:
    rng = np.random.default_rng(149)
    w = rng.uniform(-1, 1, (20, 301)) * 2.0 ** rng.integers(-45, 1, (20, 301))
    w[:, 7], w[:, 11] = 0, 1
    w = (w * largest).astype(np.float32)
    row, _ = packed(library, dtype, w, np.zeros((1, 301), np.float32))
    want = w[-1] if dtype == "float32" else rounded(w[-1])
    power = 2.0 ** np.floor(np.log2(largest)) if largest else 0
    exact = np.abs(want) >= 2.0**-14 * power
    assert largest == 0 or 20 < exact.sum() < 280
    np.testing.assert_array_equal(row[exact], want[exact])
    bound = 2.0 ** (-38 if dtype == "float32" else -15)
    assert (np.abs(row.astype(np.float64) - want) <= bound * power).all()
    assert row[7] == 0


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_weight_that_is_no_number_spoils_its_own_output_alone(
    library: ctypes.CDLL, dtype: str, odd: float
) -> None:
    w = np.ones((20, 16), np.float32)
    w[6, 3] = odd
    _, y = packed(library, dtype, w, np.ones((2, 16), np.float32))
    assert np.isnan(y[:, 6]).all()
    np.testing.assert_array_equal(np.delete(y, 6, 1), 16)
