"""Flash attention in Triton: a tile of queries at a time, with a running maximum and sum.

gpt149 runs it in Triton's interpreter, on the CPU: without a GPU its logic is judged, slowly.

gpt149 check examples/triton_attention.py
"""

import torch
import triton
import triton.language as tl

BR, BC = 16, 32  # a tile: queries x keys


@triton.jit
def attend(
    q, k, v, out, causal: tl.constexpr, scale, n_q, n_kv, n_head, group, head_dim: tl.constexpr,
    width: tl.constexpr, br: tl.constexpr, bc: tl.constexpr,
):  # fmt: skip
    """One tile of queries of one head; all tensors are contiguous, a head behind the other."""
    tile, bh = tl.program_id(0), tl.program_id(1)
    kv_head = bh // n_head * (n_head // group) + bh % n_head // group
    i = tile * br + tl.arange(0, br)
    x = tl.arange(0, width)  # head_dim, rounded up to a power of 2
    q_at = (bh * n_q + i[:, None]) * head_dim + x[None, :]
    q_mask = (i[:, None] < n_q) & (x[None, :] < head_dim)
    queries = tl.load(q + q_at, mask=q_mask, other=0.0)

    m = tl.full((br,), float("-inf"), tl.float32)  # the maximum so far
    l = tl.zeros((br,), tl.float32)  # the sum of exp(s - m) so far
    acc = tl.zeros((br, width), tl.float32)
    for start in range(0, n_kv, bc):
        j = start + tl.arange(0, bc)
        at = (kv_head * n_kv + j[:, None]) * head_dim + x[None, :]
        mask = (j[:, None] < n_kv) & (x[None, :] < head_dim)
        keys = tl.load(k + at, mask=mask, other=0.0)
        s = scale * tl.dot(queries, tl.trans(keys), input_precision="ieee")
        seen = (j[None, :] < n_kv) & (i[:, None] < n_q)
        if causal:  # query i sees the keys j <= i + n_kv - n_q
            seen = seen & (j[None, :] <= i[:, None] + n_kv - n_q)
        s = tl.where(seen, s, float("-inf"))

        m_new = tl.maximum(m, tl.max(s, 1))
        m_safe = tl.where(m_new == float("-inf"), 0.0, m_new)  # nothing seen yet
        p = tl.exp(s - m_safe[:, None])
        rescale = tl.exp(m - m_safe)
        l = l * rescale + tl.sum(p, 1)
        values = tl.load(v + at, mask=mask, other=0.0)
        acc = acc * rescale[:, None] + tl.dot(p, values, input_precision="ieee")
        m = m_new
    l = tl.where(l == 0, 1.0, l)  # rows beyond the last query
    tl.store(out + q_at, acc / l[:, None], mask=q_mask)


def attention(q, k, v, *, causal, scale):
    """softmax(scale Q K^T + mask) V, by tiles, with a running maximum and sum.

    q is (batch, n_head, n_q, head_dim), k and v are (batch, n_kv_head, n_kv, head_dim), float32; so
    is the result, in the shape of q. Query i sees the keys j <= i + n_kv - n_q if causal.
    """
    batch, n_head, n_q, head_dim = q.shape
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    out = torch.empty_like(q)
    attend[(triton.cdiv(n_q, BR), batch * n_head)](
        q, k, v, out, causal, scale, n_q, k.shape[2], n_head, n_head // k.shape[1], head_dim,
        max(16, triton.next_power_of_2(head_dim)), BR, BC,
    )  # fmt: skip
    return out
