"""Importing this registers torch.ops.gpt149.attention, which torch.compile does not break on.

import gpt149.integrations.torch_ops

out = torch.ops.gpt149.attention(q, k, v, True, None, "simd")
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ..kernels.dispatch import Attention


@functools.cache
def _attention(kernel: str) -> Attention:
    return Attention(kernel)


@torch.library.custom_op("gpt149::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    scale: float | None = None,
    kernel: str = "simd",
) -> Tensor:
    """See `gpt149.attention`; without gradients. A kernel is compiled once in a process.

    The memory of the output is token-major, (batch, n_q, n_head, head_dim), whatever the kernel.
    """
    out = _attention(kernel)(q, k, v, causal=causal, scale=scale)
    return out.transpose(1, 2).contiguous().transpose(1, 2)


@attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    scale: float | None = None,
    kernel: str = "simd",
) -> Tensor:
    batch, n_head, n_q, head_dim = q.shape
    return q.new_empty(batch, n_q, n_head, head_dim).transpose(1, 2)
