"""The kernels as an operator of torch, and under torch.compile."""

from __future__ import annotations

import pytest
import torch

import gpt149.integrations.torch_ops as torch_ops


@pytest.mark.parametrize("kernel", ["simd", "torch", "reference"])
def test_the_operator_passes_torchs_own_checks(kernel: str) -> None:
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 2, 9, 16)
    torch.library.opcheck(torch_ops.attention, (q, k, k, True, None, kernel))
    want = torch.nn.functional.scaled_dot_product_attention(
        q, k, k, is_causal=True, enable_gqa=True
    )
    got = torch.ops.gpt149.attention(q, k, k, True, None, kernel)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_torch_compile_keeps_one_graph() -> None:
    def layer(q: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.ops.gpt149.attention(q, q, q, True)) + 1

    q = torch.randn(1, 2, 9, 16)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q), layer(q))
