"""Kernels that are functions on torch tensors: torch's own attention, and the specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TensorFunction(Protocol):
    """q (batch, n_head, n_q, head_dim), k and v (batch, n_kv_head, n_kv, head_dim), float32."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float
    ) -> Tensor: ...


@dataclass(frozen=True)
class TensorKernel:
    """A function with what `gpt149 kernels` says of it."""

    name: str
    idea: str
    memory: str
    function: TensorFunction
    isa: str = "torch"


def torch_kernel() -> TensorKernel:
    return TensorKernel(
        "torch",
        "torch's scaled_dot_product_attention: the yardstick",
        "chosen by torch",
        _torch_attention,
    )


def reference_kernel() -> TensorKernel:
    return TensorKernel(
        "reference",
        "float64, the specification",
        "O(batch n_head n_q n_kv)",
        _reference_attention,
    )


def _torch_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention as sdpa

    n_q, n_kv = q.shape[2], k.shape[2]
    grouped = k.shape[1] != q.shape[1]
    # torch's is_causal is aligned to the top left: the same as ours when the call is square. One
    # query sees every key. What lies between needs the mask written out.
    square = n_q == n_kv
    mask = _causal_mask(n_q, n_kv) if causal and not square and n_q > 1 else None
    is_causal = causal and square
    return sdpa(q, k, v, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=grouped)


def _reference_attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Tensor:
    import torch

    group = q.shape[1] // k.shape[1]
    hidden = ~_causal_mask(q.shape[2], k.shape[2]) if causal else None
    out = torch.empty_like(q)
    for h in range(q.shape[1]):  # one at a time: float64 scores of all take much memory
        scores = scale * q[:, h].double() @ k[:, h // group].double().transpose(-2, -1)
        if hidden is not None:
            scores.masked_fill_(hidden, float("-inf"))
        out[:, h] = scores.softmax(-1) @ v[:, h // group].double()
    return out


def _causal_mask(n_q: int, n_kv: int) -> Tensor:
    """True where query i sees key j: j <= i + n_kv - n_q. Shape (n_q, n_kv)."""
    import torch

    return torch.ones(n_q, n_kv, dtype=torch.bool).tril(n_kv - n_q)


TENSOR_KERNELS: dict[str, Callable[[], TensorKernel]] = {
    "torch": torch_kernel,
    "reference": reference_kernel,
}
