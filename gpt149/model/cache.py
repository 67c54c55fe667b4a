"""The KV cache: keys and values of every token so far, in memory reserved once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError
from .gpt import AttentionFn


@dataclass(frozen=True)
class Run:
    """What a step feeds to `batch` sequences that are alike: n tokens each, behind `start` others.

    slot: of the first in the cache; the others follow it. row: of its first token in the step.
    """

    slot: int
    start: int
    n: int
    row: int
    batch: int = 1

    def joined(self, other: Run) -> Run | None:
        """Both as one, if the other is alike and comes next."""
        mine = (self.start, self.n, self.slot + self.batch)
        if (other.start, other.n, other.slot) != mine:
            return None
        return Run(self.slot, self.start, self.n, self.row, self.batch + other.batch)


class KVCache:
    """Keys and values, each (n_layer, slots, n_kv_head, n_ctx, head_dim), float32 or bfloat16.

    A slot holds a sequence. What the kernel gets is a view of its first n_kv tokens: strided,
    never copied.
    """

    def __init__(
        self,
        n_layer: int,
        n_slots: int,
        n_kv_head: int,
        n_ctx: int,
        head_dim: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        size = (n_layer, n_slots, n_kv_head, n_ctx, head_dim)
        n_bytes = 2 * dtype.itemsize * prod(size)
        if n_bytes > available_memory():
            raise InputError(
                f"the KV cache of {n_slots} x {n_ctx} tokens takes {n_bytes / 2**30:.1f} GiB, and "
                f"{available_memory() / 2**30:.1f} GiB are free. Ask for fewer samples, a smaller "
                "--batch, or a shorter context (-c)."
            )
        self.k = torch.empty(size, dtype=dtype, device="cpu")
        self.v = torch.empty_like(self.k)

    @property
    def n_slots(self) -> int:
        return self.k.shape[1]

    def append(self, layer: int, run: Run, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (batch, n_kv_head, n, head_dim) where the run says.

        Returns views (batch, n_kv_head, start + n, head_dim) of all keys and values of its
        sequences in this layer.

        Raises:
            InputError: they do not fit into n_ctx.
        """
        n_ctx, end = self.k.shape[3], run.start + run.n
        if end > n_ctx:
            raise InputError(
                f"the context is full: {run.start} tokens held, {run.n} more asked for, "
                f"n_ctx is {n_ctx}."
            )
        slots = slice(run.slot, run.slot + run.batch)
        self.k[layer, slots, :, run.start : end] = k
        self.v[layer, slots, :, run.start : end] = v
        return self.k[layer, slots, :, :end], self.v[layer, slots, :, :end]

    def copy(self, source: KVCache, slot: int, to: int, n: int) -> None:
        """The first n tokens of a slot of another cache, or of this one."""
        self.k[:, to, :, :n] = source.k[:, slot, :, :n]
        self.v[:, to, :, :n] = source.v[:, slot, :, :n]


class Cached:
    """The attention of a step over several sequences: each sees what it holds, and nothing else.

    The step has one row of tokens, those of the runs one behind the other. Sequences of other
    lengths get calls of their own, so nothing is padded. Layers call in turn, for one step.
    """

    def __init__(self, attention: AttentionFn, runs: Sequence[Run], cache: KVCache | None) -> None:
        """cache: None where the runs are all of their sequences."""
        self._attention, self._cache, self._layer = attention, cache, 0
        self._runs = list(runs[:1])
        for run in runs[1:]:
            if both := self._runs[-1].joined(run):
                self._runs[-1] = both
            else:
                self._runs.append(run)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float) -> Tensor:
        """q, k, v: (1, n_head, rows, head_dim)."""
        outs = []
        for run in self._runs:
            rows = slice(run.row, run.row + run.batch * run.n)
            mine, keys, values = (  # (batch, n_head, n, head_dim)
                t[0, :, rows].view(-1, run.batch, run.n, t.shape[3]).transpose(0, 1)
                for t in (q, k, v)
            )
            if self._cache is not None:
                keys, values = self._cache.append(self._layer, run, keys, values)
            out = self._attention(mine, keys, values, causal=causal, scale=scale)
            outs.append(out.transpose(0, 1).flatten(1, 2))
        self._layer += 1
        return torch.cat(outs, dim=1)[None] if len(outs) > 1 else outs[0][None]


def available_memory() -> int:
    """Bytes that can be had without swapping; a terabyte where the platform does not tell."""
    try:
        meminfo = Path("/proc/meminfo").read_text()
        return int(meminfo.split("MemAvailable:")[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return 2**40
