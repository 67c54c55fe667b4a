"""NAME: attention on torch tensors. Right and plain: a start for something else.

gpt149 check FILE --watch          right or wrong, and why, at every save
gpt149 generate "ROMEO:" -a FILE   text through this kernel, and its speed
"""

import torch


def attention(q, k, v, *, causal, scale):
    """softmax(scale Q K^T + mask) V, written down.

    q is (batch, n_head, n_q, head_dim), k and v are (batch, n_kv_head, n_kv, head_dim), float32; so
    is the result, in the shape of q. Query i sees the keys j <= i + n_kv - n_q if causal.
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = scale * q @ k.transpose(-2, -1)  # (batch, n_head, n_q, n_kv)
    if causal:
        n_q, n_kv = scores.shape[-2:]
        seen = torch.ones(n_q, n_kv, dtype=torch.bool).tril(n_kv - n_q)
        scores = scores.masked_fill(~seen, float("-inf"))
    return scores.softmax(-1) @ v
