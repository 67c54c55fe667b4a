"""Importing this registers torch.ops.gpt149.attention, which torch.compile does not break on.

import gpt149.integrations.torch_ops

out = torch.ops.gpt149.attention(q, k, v, True, None, "simd")
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ..kernels.dispatch import Attention
from ..kernels.variants import Variants


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
    window: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    sinks: Tensor | None = None,
    kv_begin: Tensor | None = None,
) -> Tensor:
    """See `gpt149.attention`; without gradients. A kernel is compiled once in a process.

    The memory of the output is token-major, (batch, n_q, n_head, v's head_dim), whatever the
    kernel.
    """
    variants = Variants(window, softcap, alibi_slopes, sinks, kv_begin)
    out = _attention(kernel)(q, k, v, causal=causal, scale=scale, variants=variants)
    return out.transpose(1, 2).contiguous().transpose(1, 2)


@attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    scale: float | None = None,
    kernel: str = "simd",
    window: int = 0,
    softcap: float = 0.0,
    alibi_slopes: Tensor | None = None,
    sinks: Tensor | None = None,
    kv_begin: Tensor | None = None,
) -> Tensor:
    batch, n_head, n_q, _ = q.shape
    return q.new_empty(batch, n_q, n_head, v.shape[3]).transpose(1, 2)
