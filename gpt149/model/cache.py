"""The KV cache: keys and values of every token so far, in memory reserved once."""

from __future__ import annotations

from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError


class KVCache:
    """Keys and values, each (n_layer, batch, n_kv_head, n_ctx, head_dim), float32 or bfloat16.

    A step appends the same tokens to every layer, then advances `length` once. What the kernel
    gets is a view of the first n_kv tokens: strided, never copied.
    """

    def __init__(
        self,
        n_layer: int,
        batch: int,
        n_kv_head: int,
        n_ctx: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        size = (n_layer, batch, n_kv_head, n_ctx, head_dim)
        n_bytes = 2 * dtype.itemsize * prod(size)
        if n_bytes > available_memory():
            raise InputError(
                f"the KV cache of {batch} x {n_ctx} tokens takes {n_bytes / 2**30:.1f} GiB, and "
                f"{available_memory() / 2**30:.1f} GiB are free. Ask for fewer samples or a "
                "shorter context (-c)."
            )
        self.k = torch.empty(size, dtype=dtype, device="cpu")
        self.v = torch.empty_like(self.k)
        self.length = 0

    @property
    def n_ctx(self) -> int:
        return self.k.shape[3]

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (batch, n_kv_head, n, head_dim) behind what this layer holds.

        Returns views (batch, n_kv_head, length + n, head_dim) of all of its keys and values.

        Raises:
            InputError: they do not fit into n_ctx.
        """
        end = self.length + k.shape[2]
        if end > self.n_ctx:
            raise InputError(
                f"the context is full: {self.length} tokens held, {k.shape[2]} more asked for, "
                f"n_ctx is {self.n_ctx}."
            )
        self.k[layer, :, :, self.length : end] = k
        self.v[layer, :, :, self.length : end] = v
        return self.k[layer, :, :, :end], self.v[layer, :, :, :end]

    def advance(self, n: int) -> None:
        """Count n appended tokens as held, once every layer has them."""
        self.length += n

    def repeat(self, n: int) -> KVCache:
        """A cache in which this one's only sequence stands n times."""
        n_layer, batch, n_kv_head, n_ctx, head_dim = self.k.shape
        assert batch == 1
        copy = KVCache(n_layer, n, n_kv_head, n_ctx, head_dim, self.k.dtype)
        copy.length = self.length
        copy.k[:, :, :, : self.length] = self.k[:, :, :, : self.length]
        copy.v[:, :, :, : self.length] = self.v[:, :, :, : self.length]
        return copy


def available_memory() -> int:
    """Bytes that can be had without swapping; a terabyte where the platform does not tell."""
    try:
        meminfo = Path("/proc/meminfo").read_text()
        return int(meminfo.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return 2**40
