"""Every kernel that ships computes attention, judged against float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gpt149.kernels.dispatch import Attention
from gpt149.kernels.loaders.tensors import reference_kernel
from gpt149.kernels.registry import BUILTINS, CONTRACT_BUILTINS

EPS = 2.0**-24


@dataclass(frozen=True)
class Case:
    batch: int
    n_head: int
    n_kv_head: int
    n_q: int
    n_kv: int
    head_dim: int
    causal: bool = True
    logit_size: float = 1.0
    tile: tuple[int, int] = (0, 0)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Views into larger memory, as a model's fused projection and its KV cache give them."""
        g = torch.Generator().manual_seed(149)
        qkv = torch.randn(self.batch, self.n_q, 3, self.n_head, self.head_dim, generator=g)
        size = (2, self.batch, self.n_kv_head, self.n_kv + 5, self.head_dim)
        cache = torch.randn(size, generator=g)
        q = self.logit_size * qkv[:, :, 0].transpose(1, 2)
        return q, cache[0, :, :, : self.n_kv], cache[1, :, :, : self.n_kv]


SHAPES = [
    Case(1, 4, 4, 1, 1, 8),
    Case(1, 4, 4, 17, 17, 32),
    Case(2, 3, 3, 31, 31, 59),
    Case(2, 3, 3, 33, 33, 64),
    Case(1, 2, 2, 37, 37, 1),
    Case(1, 2, 2, 127, 127, 80),
    Case(1, 2, 2, 129, 129, 128),
    Case(1, 12, 12, 128, 128, 64),
    Case(1, 4, 4, 1, 147, 32),
    Case(2, 4, 4, 5, 69, 32),
    Case(1, 2, 2, 33, 1000, 64),
    Case(1, 8, 2, 37, 37, 32),
    Case(2, 8, 1, 1, 65, 64),
    Case(2, 4, 4, 37, 21, 32, causal=False),
    Case(1, 4, 2, 64, 200, 64, causal=False),
    Case(1, 2, 2, 65, 65, 32, logit_size=100.0),
]
TILES = [(1, 1), (7, 13), (16, 5), (300, 2), (2, 300), (2**31 - 1, 2**31 - 1)]


def judge(kernel: str, case: Case, n_threads: int | None = None) -> None:
    """By a measure that `check` does not use: at most 4 x a BLAS attention's error, or 16 units."""
    q, k, v = case.tensors()
    attend = Attention(kernel, br=case.tile[0], bc=case.tile[1], n_threads=n_threads)
    scale = case.head_dim**-0.5
    out = attend(q, k, v, causal=case.causal, scale=scale)
    group = case.n_head // case.n_kv_head
    k64, v64 = (t.double().repeat_interleave(group, 1) for t in (k, v))
    hidden = torch.ones(case.n_q, case.n_kv).tril(case.n_kv - case.n_q) == 0
    hidden &= case.causal
    scores = (scale * q.double() @ k64.mT).masked_fill(hidden, -torch.inf)
    want = scores.softmax(-1) @ v64
    size = (scores.softmax(-1) @ v64.abs()).max()
    plain = (scale * (q @ k64.float().mT)).masked_fill(hidden, -torch.inf).softmax(-1) @ v64.float()
    err32 = (plain.double() - want).abs().max()
    err = (out.double() - want).abs().max()
    assert err <= 4 * err32 + 16 * EPS * size, f"{err:.2e}, a BLAS attention errs {err32:.2e}"


@pytest.mark.parametrize("kernel", BUILTINS)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_shapes(kernel: str, case: Case) -> None:
    judge(kernel, case)


@pytest.mark.parametrize("kernel", ["blocked", "flash", "simd"])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles_that_divide_nothing(kernel: str, tile: tuple[int, int]) -> None:
    judge(kernel, Case(1, 4, 2, 37, 101, 32, tile=tile))


@pytest.mark.parametrize("kernel", CONTRACT_BUILTINS)
@pytest.mark.parametrize("n_threads", [1, 3, 8])
def test_thread_counts(kernel: str, n_threads: int) -> None:
    judge(kernel, Case(2, 4, 2, 33, 77, 32), n_threads)


@pytest.mark.parametrize("kernel", CONTRACT_BUILTINS)
def test_nothing_around_the_views_is_touched(kernel: str) -> None:
    q, k, v = Case(2, 4, 2, 9, 33, 16).tensors()
    bases = [t._base for t in (k, v)]
    before = [b.clone() for b in bases if b is not None]
    assert len(before) == 2
    Attention(kernel)(q, k, v, causal=True)
    assert all(torch.equal(b, a) for b, a in zip(bases, before, strict=True) if b is not None)


@pytest.mark.parametrize("kernel", BUILTINS)
def test_a_row_maximum_that_falls_later(kernel: str) -> None:
    """Large scores first, small ones later: the maximum of a tile is not the running one."""
    case = Case(1, 2, 2, 70, 140, 32)
    q, k, v = case.tensors()
    k = k.clone()
    k[:, :, :40] *= 30
    out = Attention(kernel)(q, k, v, causal=True)
    want = reference_kernel().function(q, k, v, causal=True, scale=32**-0.5)
    torch.testing.assert_close(out, want, rtol=1e-4, atol=1e-4)


def test_default_scale_is_one_over_sqrt_head_dim() -> None:
    q, k, v = Case(1, 2, 2, 9, 9, 16).tensors()
    attend = Attention("flash")
    torch.testing.assert_close(
        attend(q, k, v, causal=True), attend(q, k, v, causal=True, scale=0.25)
    )
    assert (attend.calls, attend.seconds > 0) == (2, True)


def test_zeros_kernel_is_caught_by_the_judge() -> None:
    """The negative control of this file."""
    with pytest.raises(AssertionError, match="a BLAS attention errs"):
        judge("tests/wrong_kernels/zeros.cpp", Case(1, 4, 4, 17, 17, 32))


@pytest.mark.parametrize("kernel", [*CONTRACT_BUILTINS, "reference"])
@pytest.mark.parametrize("n_q", [1, 9])
@pytest.mark.parametrize("causal", [False, True])
def test_nan_stays_where_it_is_seen(kernel: str, n_q: int, causal: bool) -> None:
    """Broken weights show as NaN in the text's logits; a kernel that makes 0 of it hides them."""
    q, (k, v) = torch.randn(1, 2, n_q, 32), torch.randn(2, 1, 2, 9, 32)
    q[0, 0, n_q // 2, 3] = k[0, 1, 4, 5] = torch.nan
    out = Attention(kernel)(q, k, v, causal=causal).isnan().all(-1)[0]
    assert torch.equal(out[0], torch.arange(n_q) == n_q // 2)
    assert torch.equal(out[1], torch.arange(9)[-n_q:] >= (4 if causal else 0))
