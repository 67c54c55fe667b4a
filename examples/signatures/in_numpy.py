"""Attention of one head as a function of numpy arrays."""

# gpt149: axes=nd, any-lengths

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def attention(q: Array, k: Array, v: Array) -> Array:
    """Without a mask; q (n_q, d), k and v (n_kv, d)."""
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    out: Array = weights / weights.sum(axis=1, keepdims=True) @ v
    return out
