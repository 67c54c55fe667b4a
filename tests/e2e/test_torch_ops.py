"""The kernels as an operator of torch, and under torch.compile."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gpt149
import gpt149.integrations.torch_ops as torch_ops
from gpt149.errors import KernelDeclined


@pytest.mark.parametrize("kernel", ["simd", "torch", "reference"])
def test_the_operator_passes_torchs_own_checks(kernel: str) -> None:
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 2, 9, 16)
    torch.library.opcheck(torch_ops.attention, (q, k, k, True, None, kernel))
    want = torch.nn.functional.scaled_dot_product_attention(
        q, k, k, is_causal=True, enable_gqa=True
    )
    got = torch.ops.gpt149.attention(q, k, k, True, None, kernel)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", ["naive", "flash", "simd", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "asked",
    [
        {"window": 4},
        {"softcap": 0.5},
        {"alibi_slopes": torch.tensor([0.5, 0.25, 0.125, 1.0])},
        {"sinks": torch.tensor([1.0, -1.0, 0.0, 3.0])},
        {"kv_begin": torch.tensor([0, 5], dtype=torch.int32)},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_it_takes_variants(kernel: str, dtype: torch.dtype, asked: dict[str, Any]) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, h, 9, d).to(dtype) for h, d in ((4, 16), (2, 16), (2, 12)))
    call = (q, k, v, True, None, kernel)
    torch.library.opcheck(torch_ops.attention, call, asked)
    got = torch.ops.gpt149.attention(*call, **asked)
    want = gpt149.attention(q, k, v, causal=True, kernel="reference", **asked)
    assert got.shape == (2, 4, 9, 12)
    assert got.dtype == dtype
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 if dtype == torch.float32 else 2e-2)
    plain = torch.ops.gpt149.attention(*call)
    assert (got - plain).abs().max() > 0.05


def test_a_variant_that_is_not_claimed_is_declined() -> None:
    q, mine = torch.randn(1, 2, 9, 16), "tests/right_kernels/plain_sequential.cpp"
    with pytest.raises(KernelDeclined, match="a sliding window"):
        torch.ops.gpt149.attention(q, q, q, True, None, mine, window=3)


def test_torch_compile_keeps_one_graph() -> None:
    def layer(q: torch.Tensor) -> torch.Tensor:
        out = torch.ops.gpt149.attention(q, q, q[..., :12], True, None, "flash", window=4)
        return torch.relu(out) + 1

    q = torch.randn(1, 2, 9, 16)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q), layer(q))
