"""csrc/engine/int4.h: products with weights of 4.125 bits against numpy's, for each way they are
compiled.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

GROUP, SHARED = 256, 32  # as in int4.h
SOURCE = """
#include "engine/int4.h"
extern "C" bool multiply(const float *w, int in, int out, const float *bias, const float *x,
                         int rows, float *y, float *packed, int n_threads) {
    Pool pool;
    Matrix m;
    Quantised4 q;
    if (!pack4(m, pool, w, in, out, 1, in, n_threads) || !q.reserve(rows, in + 600)) return false;
    std::copy_n(bias, out, m.bias.get());
    std::memset(q.values.get(), 1, rows * q.width); // of rows that were wider
    for (int r = 0; r < rows; r++)
        q.keep(r, x + r * in, in);
    for (int thread = 0; thread < n_threads; thread++)
        multiply4({m, 0, y, out, rows, REPLACE, RELU,
                   Share(m.panels(), thread, n_threads)}, q);
    for (int o = 0; o < out; o++)
        row4(m, o, packed + o * in);
    return true;
}
"""

F32 = NDArray[np.float32]


def normal(*shape: int) -> F32:
    return np.random.default_rng(149).normal(size=shape).astype(np.float32)


def multiply(
    library: ctypes.CDLL, w: F32, bias: F32, x: F32, n_threads: int = 2
) -> tuple[F32, F32]:
    """The product (rows, out) of w (out, in) and x (rows, in); the weights that it stands for."""
    (out, n_in), rows = w.shape, len(x)
    y, packed = np.full((rows, out), np.nan, np.float32), np.empty_like(w)
    at = [ctypes.c_void_p(a.ctypes.data) for a in (w, bias, x, y, packed)]
    assert library.multiply(at[0], n_in, out, at[1], at[2], rows, at[3], at[4], n_threads)
    return y, packed


def rounded(x: F32) -> NDArray[np.float64]:
    """Activations as products take them."""
    y = x.astype(np.float64)
    for g in range(0, x.shape[1], GROUP):
        part = y[:, g : g + GROUP]
        scale = np.abs(part).max(1, keepdims=True) / 127
        part[:] = np.rint(part / np.where(scale > 0, scale, 1)) * scale
    return y


@pytest.mark.parametrize(
    ("rows", "n_in", "out"), [(1, 4, 1), (1, 513, 300), (2, 51, 77), (7, 256, 131), (5, 770, 65)]
)
def test_products_are_those_specified(library: ctypes.CDLL, rows: int, n_in: int, out: int) -> None:
    w, x, bias = normal(out, n_in), normal(rows, n_in)[:, ::-1].copy(), normal(out)
    x[0, : n_in // 2] = 0  # a group may be all zeros
    x[-1, -1] = 40  # takes precision from its own group alone
    got, packed = multiply(library, w, bias, x)
    want = rounded(x) @ packed.T.astype(np.float64) + bias
    # A value halfway between two whole numbers may be rounded to either: a step of it is allowed.
    assert np.abs(got - want).max() < 1.1 * np.abs(x).max() / 127 * np.abs(w).max()
    assert np.median(np.abs(got - want)) < 1e-5 * np.abs(want).max()
    one = [multiply(library, w, bias, row[None], n_threads=3)[0][0] for row in x]
    np.testing.assert_array_equal(got, one)


def test_weights_are_nearly_what_they_were(library: ctypes.CDLL) -> None:
    """As near as ggml's q4_0, with a float16 for each 32, takes them; small ones beside large ones
    as near as int8.
    """
    w = normal(40, 800)
    w[:, :SHARED] *= np.geomspace(1e-3, 1, 40, dtype=np.float32)[:, None]
    packed = multiply(library, w, normal(40), normal(1, 800))[1]
    largest = np.abs(w).max(1, keepdims=True)
    groups = w.reshape(40, -1, SHARED)
    at = np.abs(groups).argmax(2, keepdims=True)
    scale = np.take_along_axis(groups, at, 2) / -8
    q4_0 = (np.clip(np.rint(groups / scale), -8, 7) * scale).reshape(w.shape)
    error, theirs = (packed - w) ** 2, (q4_0 - w) ** 2
    assert error.mean() < 1.1 * theirs.mean()
    assert (np.abs(packed - w) < 0.2 * largest).all()  # what is large may be cut off
    assert np.abs(packed - w)[0, :SHARED].max() < largest[0] / 220
    few = (packed / largest * 15 * 7.5).round(3)
    assert np.abs(few - few.round()).max() < 2e-3  # whole numbers of an output's scale


def test_the_largest_values_neither_wrap_nor_saturate(library: ctypes.CDLL) -> None:
    signs = np.where(np.arange(1024) % 2 == 0, 1, -1).astype(np.float32)
    w = np.stack([signs, -signs, -np.ones(1024, np.float32)])
    x = np.stack([signs, 0 * signs + 1])
    got, packed = multiply(library, w, np.zeros(3, np.float32), x)
    np.testing.assert_allclose(packed, w, atol=0.07)
    np.testing.assert_allclose(got, x @ packed.T, rtol=1e-5)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_so(library: ctypes.CDLL, odd: float) -> None:
    w, x, bias = normal(9, 300), normal(9, 300), np.zeros(9, np.float32)
    x[4, 280] = odd
    got, _ = multiply(library, w, bias, x)
    assert np.isnan(got[4]).all()
    assert np.isfinite(np.delete(got, 4, 0)).all()
    x = normal(9, 300)
    want, _ = multiply(library, w, bias, x)
    w[4, 7] = odd  # spoils its own output alone
    got, _ = multiply(library, w, bias, x)
    assert np.isnan(got[:, 4]).all()
    np.testing.assert_array_equal(np.delete(got, 4, 1), np.delete(want, 4, 1))
