"""What the reading instruments say of what they have read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from gpt149.check.cases import Case
from gpt149.check.observe import Observation
from gpt149.check.reading.addresses import describe
from gpt149.check.reading.edges import edge
from gpt149.check.reading.keys import which
from gpt149.check.reading.logsum import read_lse
from gpt149.check.reading.mask import Seen, _fitting
from gpt149.check.reading.probe import Probe
from gpt149.check.reading.where import when, where
from gpt149.check.reading.words import factor, ranges

N_Q, N_KV = 77, 128
I, J = np.arange(N_Q)[:, None], np.arange(N_KV)[None, :]
P = I + N_KV - N_Q  # each query's own key
CASE = Case("chunk", 1, 1, 1, N_Q, N_KV, 8)


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        (np.ones((N_Q, N_KV), bool), "the mask is missing"),
        (J <= I, "aligned to the top left"),
        (J <= P - 1, "every query sees 1 key fewer"),
        (J <= P + 1, "every query sees 1 key more"),
        ((P >= J) & (J > P - 33), "its last 33 keys only"),
        (J < (P // 16 + 1) * 16, "up to the end of its block of 16"),
        (J <= I + (N_KV - N_Q) // 32 * 32, "rounded down to a multiple of 32"),
        ((P >= J) & (P // 8 != J // 8), "the tile of 8 keys on the diagonal is skipped"),
        ((P >= J) & (J >= 3), "the first 3 keys are never seen"),
        ((P >= J) & ~np.isin(J, [25, 50, 75]), "keys 25, 50, 75"),
        (J < (P + 1) // 6 * 6, "whole tiles of 6 keys, or 6 equal parts, is dropped"),
        ((P >= J) & ((J != P) | ((P + 1) % 16 != 1)), "alone in its tile of 16 is dropped"),
    ],
)
def test_a_mask_is_put_into_a_rule(seen: NDArray[np.bool_], says: str) -> None:
    probe = cast("Probe", SimpleNamespace(case=CASE))
    assert any(says in said for said in _fitting(seen, probe)[:2])


def test_counts_and_what_else_is_in_the_sum() -> None:
    counts = np.tri(5, 5, dtype=int)
    counts[:, 2] *= 2
    sums = counts.sum(1, keepdims=True) + 3
    seen = Seen.of(counts / sums)
    assert seen.whole
    assert np.array_equal(seen.counts, counts)
    np.testing.assert_allclose(seen.extra, 3)


SMALL = Case("small", 1, 1, 1, 40, 40, 16)


def address(of: Callable[[Any, Any], Any]) -> NDArray[np.float64]:
    j, x = np.indices((40, 16))
    addresses: NDArray[np.float64] = of(j, x).astype(float)
    return addresses


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (lambda j, x: j * 16 + x, ""),
        (lambda j, x: x * 16 + j, "x*head_dim + j for (token j, dim x): the indices are exchanged"),
        (lambda j, x: x * 40 + j, "x*n_kv + j for (token j, dim x): as if it lay in memory as"),
        (lambda j, x: j * 40 + x, "j*n_kv + x"),
        (lambda j, x: j * 16 + x + 16, "j*head_dim + x + 16"),
        (lambda j, x: j * 16 + x // 8 * 8, "the dim rounded down to a multiple of 8"),
        (lambda j, x: j % 32 * 16 + x, "token j % 32 for token j"),
        (lambda j, x: j % 13 * 16 + x, "token j % 13 for token j"),
        (lambda j, x: (j * 16 + x) & 0xFF, "token j % 16 for token j"),
    ],
)
def test_addresses_are_put_into_a_formula(of: Callable[[Any, Any], Any], says: str) -> None:
    said = describe(address(of), "K", SMALL)
    assert says in said
    assert bool(said) == bool(says)


def test_addresses_outside_of_the_tensor_are_told() -> None:
    assert "outside of the tensor" in describe(address(lambda j, x: x * 640 + j), "K", SMALL)


def test_a_stride_of_another_tensor_is_told() -> None:
    padded = replace(SMALL, layout="padded")  # where every tensor has a stride of its own
    assert "j*V's stride + x" in describe(address(lambda j, x: j * 25 + x), "K", padded)


def test_wrong_values_as_a_product_of_sets() -> None:
    wrong = np.zeros((1, 2, 32, 59), bool)
    wrong[:, :, 3::4, 56:] = True
    assert where(wrong) == "exactly queries 3, 7, ... (index % 4 = 3), dims 56-58"
    assert where(np.ones((1, 2, 3, 4), bool)) == ""


def observed(case: Case, passed: bool) -> Observation:
    answer = SimpleNamespace(outcome="ok")
    return cast("Observation", SimpleNamespace(case=case, passed=passed, answer=answer))


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (lambda c: c.n_q == 1, "n_q = 1 (decode)"),
        (lambda c: c.n_kv > 512, "n_kv > 512"),
        (lambda c: c.batch > 3, "batch > 3"),
        (lambda c: c.head_dim % 8 != 0, "head_dim is no multiple of 8"),
        (lambda c: c.n_q == 1 and c.n_threads > 1, "n_q = 1 (decode) and n_threads > 1"),
    ],
)
def test_when_cases_fail(fails: Callable[[Case], bool], says: str) -> None:
    cases = [
        replace(CASE, batch=batch, n_q=n_q, n_kv=n_kv, head_dim=d, n_threads=threads)
        for batch in (1, 3, 4)
        for n_q, n_kv in ((1, 90), (1, 600), (40, 40), (7, 513), (5, 500), (64, 128))
        for d in (8, 60, 64)
        for threads in (1, 2)
    ]
    assert when([observed(case, not fails(case)) for case in cases]) == says


def test_numbers_and_sets_in_words() -> None:
    assert ranges([3, 8, 9, 10, 20]) == "3, 8-10, 20"
    assert ranges([1, 5, 9, 13]) == "1, 5, 9, ... (in steps of 4)"
    assert factor(8.0, 64) == "8 (sqrt(head_dim))"
    assert factor(1.4426950408889634, 64) == "1.4427 (log2(e))"
    assert factor(1.23, 64) == "1.23"


WINDOWED = replace(CASE, batch=2, n_head=3, window=20, kv_begin=True)
BEGINS = np.array([50, 10])
FIRST = np.maximum(P - 19, BEGINS[:, None, None, None])


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (np.maximum(P - 22, BEGINS[:, None, None, None]), "the window begins 3 keys too early"),
        (FIRST + 1, "rows begin 1 key too late"),
        (np.maximum((P - 19) // 8 * 8, BEGINS[:, None, None, None]), "down to a multiple of 8"),
        (np.maximum(P - 19, BEGINS[:1, None, None, None]), "kv_begin of batch 0 is taken"),
        (P - 19, "kv_begin hides nothing where there is a window"),
        (np.maximum(I - 19, BEGINS[:, None, None, None]), "counted from query i"),
        (np.where(I % 7 == 3, FIRST - 2, FIRST), ""),
    ],
)
def test_where_rows_begin_is_put_into_a_rule(first: NDArray[np.int_], says: str) -> None:
    shape = (2, 3, N_Q, N_KV)
    seen = np.broadcast_to((P >= J) & (first <= J), shape)
    should = np.broadcast_to((P >= J) & (FIRST <= J), shape)
    said = edge(seen, should, WINDOWED, BEGINS)
    assert says in said
    assert bool(says) == bool(said)


def test_keys_that_are_treated_otherwise_are_put_into_a_rule() -> None:
    known = P >= J
    assert which((P + 1) // 8 * 8 <= J, known, CASE).startswith(
        "the keys behind whole vectors of 8"
    )
    assert (
        which(P // 32 != J // 32, known, CASE) == "all keys but those of a query's last tile of 32"
    )
    assert which((I * J) % 5 == 1, known, CASE) == ""


def test_an_lse_is_told_by_what_is_off() -> None:
    want = np.random.default_rng(0).uniform(3, 6, (2, 3, 20))
    allowed = np.full_like(want, 1e-5)
    assert read_lse(want + np.log(4), want, allowed).startswith("each is 1.3863 too large, log(4)")
    assert read_lse(1.5 * want, want, allowed).startswith("each is 1.5 times what it should be")
    turned = read_lse(want[:, ::-1], want, allowed)
    assert "(batch 0, head 0, query 0) has that of (batch 0, head 2, query 0)" in turned
