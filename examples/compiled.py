"""A kernel as a torch operator, inside a function that torch.compile compiles whole."""

import torch
from torch import Tensor

import gpt149.integrations.torch_ops  # noqa: F401  registers torch.ops.gpt149


def block(x: Tensor, w: Tensor) -> Tensor:
    """x: (batch, n, 3, n_head, head_dim) of queries, keys and values."""
    q, k, v = x.permute(2, 0, 3, 1, 4)
    out: Tensor = torch.ops.gpt149.attention(q, k, v, True, None, "simd")
    return torch.relu(out.transpose(1, 2).flatten(2) @ w)


def main() -> None:
    torch.manual_seed(0)
    x, w = torch.randn(2, 50, 3, 4, 16), torch.randn(64, 64)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    error = (compiled(x, w) - block(x, w)).abs().max()
    print(f"largest difference between compiled and not: {error:.1e}")
    assert error < 1e-4


if __name__ == "__main__":
    main()
