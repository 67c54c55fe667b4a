"""csrc/engine/int8.h: products in whole numbers against numpy's, for each way they are compiled."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from numpy.typing import NDArray

GROUP = 256  # as in int8.h
SOURCE = """
#include "engine/int8.h"
extern "C" bool multiply(const float *w, int in, int out, const float *bias, const float *x,
                         int rows, float *y, float *w_row, int n_threads) {
    Pool pool;
    Matrix m;
    Quantised q;
    if (!pack<int8_t>(m, pool, w, in, out, 1, in, n_threads)) return false;
    if (!q.reserve(rows, in)) return false;
    std::copy_n(bias, out, m.bias.get());
    for (int r = 0; r < rows; r++)
        q.keep(r, x + r * in, in);
    for (int thread = 0; thread < n_threads; thread++)
        multiply8({m, 0, y, out, rows, REPLACE, RELU,
                   Share(m.panels(), thread, n_threads)}, q);
    row<int8_t>(m, out - 1, w_row);
    return true;
}
"""

F32 = NDArray[np.float32]


def multiply(library: ctypes.CDLL, w: F32, bias: F32, x: F32, n_threads: int = 2) -> F32:
    """The product (rows, out) of w (out, in) and x (rows, in)."""
    (out, n_in), rows = w.shape, len(x)
    y, w_row = np.full((rows, out), np.nan, np.float32), np.empty(n_in, np.float32)
    at = [ctypes.c_void_p(a.ctypes.data) for a in (w, bias, x, y, w_row)]
    assert library.multiply(at[0], n_in, out, at[1], at[2], rows, at[3], at[4], n_threads)
    np.testing.assert_allclose(w_row, w[-1], rtol=0, atol=np.abs(w[-1]).max() / 253)
    return y


def specified(w: F32, bias: F32, x: F32) -> NDArray[np.float64]:
    """What the products are defined to be, in float64."""
    w_scale = np.abs(w).max(1, keepdims=True) / 127
    whole_w = np.rint(w / w_scale)
    y: NDArray[np.float64] = np.tile(bias.astype(np.float64), (len(x), 1))
    for g in range(0, x.shape[1], GROUP):
        part = x[:, g : g + GROUP]
        x_scale = np.abs(part).max(1, keepdims=True) / 127
        whole_x = np.rint(part / np.where(x_scale > 0, x_scale, 1))
        y += (whole_x @ whole_w[:, g : g + GROUP].T) * x_scale * w_scale[:, 0]
    return y


@pytest.mark.parametrize(
    ("rows", "n_in", "out"),
    [
        (1, 4, 1),
        (1, 513, 300),
        (2, 51, 77),
        (3, 300, 64),
        (7, 96, 48),
        (13, 256, 131),
        (31, 770, 65),
        (65, 513, 100),
    ],
)
def test_products_are_those_specified(library: ctypes.CDLL, rows: int, n_in: int, out: int) -> None:
    rng = np.random.default_rng(149)
    w, x, bias = (rng.normal(size=s).astype(np.float32) for s in ((out, n_in), (rows, n_in), out))
    x[0, : n_in // 2] = 0  # a group may be all zeros
    x[-1, -1] = 40  # takes precision from its own group alone
    got, want = multiply(library, w, bias, x), specified(w, bias, x)
    # A value halfway between two whole numbers may be rounded to either: a step of it is allowed.
    step = np.abs(x).max() / 127 * np.abs(w).max()
    assert np.abs(got - want).max() < 1.1 * step
    assert np.median(np.abs(got - want)) < 1e-5 * np.abs(want).max()


def test_a_row_is_the_same_to_the_bit_among_any_others(library: ctypes.CDLL) -> None:
    """So that a sample is what it is alone, however many are decoded at once."""
    rng = np.random.default_rng(149)
    w, x = (rng.normal(size=s).astype(np.float32) for s in ((147, 303), (70, 303)))
    bias = np.zeros(147, np.float32)
    alone = np.concatenate([multiply(library, w, bias, row[None]) for row in x])
    for rows in (2, 3, 4, 5, 6, 7, 8, 9, 16, 23, 64, 70):
        np.testing.assert_array_equal(multiply(library, w, bias, x[:rows]), alone[:rows])


def test_the_largest_values_neither_wrap_nor_saturate(library: ctypes.CDLL) -> None:
    signs = np.where(np.arange(1024) % 2 == 0, 1, -1).astype(np.float32)
    w = np.stack([signs, -signs, np.ones(1024, np.float32)])
    got = multiply(library, w, np.zeros(3, np.float32), np.stack([signs, 0 * signs + 1]))
    np.testing.assert_allclose(got, [[1024, -1024, 0], [0, 0, 1024]], rtol=1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_stays_so(library: ctypes.CDLL, odd: float) -> None:
    rng = np.random.default_rng(149)
    w, x = (rng.normal(size=(9, 300)).astype(np.float32) for _ in range(2))
    x[4, 280] = odd
    got = multiply(library, w, np.zeros(9, np.float32), x)
    assert np.isnan(got[4]).all()
    assert np.isfinite(np.delete(got, 4, 0)).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_weight_that_is_no_number_spoils_its_own_output_alone(
    library: ctypes.CDLL, odd: float
) -> None:
    rng = np.random.default_rng(149)
    w, x = (rng.normal(size=(9, 300)).astype(np.float32) for _ in range(2))
    want = multiply(library, w, np.zeros(9, np.float32), x)
    w[4, 7] = odd
    got = multiply(library, w, np.zeros(9, np.float32), x)
    assert np.isnan(got[:, 4]).all()
    np.testing.assert_array_equal(np.delete(got, 4, 1), np.delete(want, 4, 1))
