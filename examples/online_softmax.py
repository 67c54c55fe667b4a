"""Attention a key block at a time, in torch: what FlashAttention computes, without its speed.

    gpt149 check examples/online_softmax.py
    gpt149 generate "ROMEO:" -a examples/online_softmax.py

Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".
"""

import torch
from torch import Tensor

BC = 64  # keys a block


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Tensor:
    """q: (batch, n_head, n_q, head_dim); k, v: (batch, n_kv_head, n_kv, head_dim)."""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))  # grouped heads
    n_q, n_kv = q.shape[2], k.shape[2]
    last_seen = torch.arange(n_q)[:, None] + (n_kv - n_q if causal else n_kv)
    m = q.new_full((*q.shape[:3], 1), -torch.inf)  # running row maximum
    l = torch.zeros_like(m)  # running row sum
    out = torch.zeros_like(q)
    for j in range(0, n_kv, BC):
        s = q @ k[:, :, j : j + BC].transpose(2, 3) * scale
        keys = torch.arange(j, min(j + BC, n_kv))
        s = s.masked_fill(keys > last_seen, -torch.inf)
        m_new = torch.maximum(m, s.amax(-1, keepdim=True))
        p = torch.exp(s - m_new)
        old = torch.exp(m - m_new)  # what was summed so far shrinks by this
        l = l * old + p.sum(-1, keepdim=True)
        out = out * old + p @ v[:, :, j : j + BC]
        m = m_new
    return out / l
