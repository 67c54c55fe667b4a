"""Looking into a kernel that shows only its output: the attention matrix, and errors a layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..kernels.dispatch import Attention

LayerCall = Callable[[int, Tensor, Tensor, Tensor, float], None]


def attention_matrix(
    attend: Attention, q: Tensor, k: Tensor, *, causal: bool, scale: float
) -> Tensor:
    """The matrix P of a kernel that only computes P V, a slice of identity as V at a time.

    Args:
        attend: the kernel.
        q: (1, 1, n_q, head_dim), one head.
        k: (1, 1, n_kv, head_dim).
        causal: as in `attention`.
        scale: as in `attention`.

    Returns:
        float32 (n_q, n_kv), in ceil(n_kv / head_dim) calls.
    """
    n_kv, head_dim = k.shape[2:]
    columns = []
    for start in range(0, n_kv, head_dim):
        width = min(head_dim, n_kv - start)
        v = torch.zeros(1, 1, n_kv, head_dim)
        v[0, 0, start : start + width, :width] = torch.eye(width)
        columns.append(attend(q, k, v, causal=causal, scale=scale)[0, 0, :, :width])
    return torch.cat(columns, dim=1)


class Spy:
    """An attention that computes with one kernel, and shows every layer's inputs to a callback."""

    def __init__(self, attend: Attention, on_layer: LayerCall) -> None:
        self._attend, self._on_layer, self._layer = attend, on_layer, 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Tensor:
        """As the kernel's; the callback gets (layer from 0, q, k, v, scale). One step only."""
        self._on_layer(self._layer, q, k, v, scale)
        self._layer += 1
        return self._attend(q, k, v, causal=causal, scale=scale)
