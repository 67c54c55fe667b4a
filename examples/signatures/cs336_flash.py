"""FlashAttention-2's forward pass as assignment 2 of Stanford's CS336 asks for it, in PyTorch.

Tri Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning", 2023.
"""

from typing import Any

import torch
from torch import Tensor

TILE = 16  # divides the sizes, which are powers of two


class FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
        """Of q (batch, n_q, d), k and v (batch, n_k, d). Saves the log-sum-exp (batch, n_q)."""
        scale = q.shape[-1] ** -0.5
        out, lse = torch.empty_like(q), q.new_empty(q.shape[:2])
        for i in range(0, q.shape[1], TILE):
            rows = slice(i, i + TILE)
            m, l = q.new_full((len(q), TILE), -torch.inf), q.new_zeros(len(q), TILE)
            acc = torch.zeros_like(q[:, rows])
            for j in range(0, k.shape[1], TILE):
                keys = slice(j, j + TILE)
                s = scale * q[:, rows] @ k[:, keys].transpose(1, 2)
                if is_causal:
                    row, column = torch.arange(i, i + TILE), torch.arange(j, j + TILE)
                    s = s.masked_fill(column > row[:, None], -torch.inf)
                risen = torch.maximum(m, s.amax(-1))
                p, fade = (s - risen[..., None]).exp(), (m - risen).exp()
                l = fade * l + p.sum(-1)
                acc = fade[..., None] * acc + p @ v[:, keys]
                m = risen
            out[:, rows], lse[:, rows] = acc / l[..., None], m + l.log()
        ctx.save_for_backward(q, k, v, out, lse)
        return out
