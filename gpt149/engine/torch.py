"""The engine over model/gpt.py: every step in torch, attention by any kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.dispatch import Attention
from ..kernels.registry import Kernel
from ..model.cache import Cached, KVCache, Run
from ..model.gpt import GPT
from .choices import KV_DTYPES, check_choice
from .protocol import assigned, checked_n_ctx

KV_TYPES = dict(zip(KV_DTYPES, (torch.float32, torch.bfloat16), strict=True))


class TorchEngine:
    """The model in torch with a KV cache, or recomputing everything at every step without one.

    `ids` are those that were fed so far, to each sequence.
    """

    name = "torch"
    dtype = "float32"

    def __init__(
        self,
        model: GPT,
        attention: Attention,
        *,
        decode_kernel: Kernel | None = None,
        n_ctx: int | None = None,
        kv_cache: bool = True,
        kv_dtype: str = "float32",
    ) -> None:
        """n_ctx: a context shorter than the model's; None: the model's. kv_dtype: one of KV_DTYPES.

        Raises:
            InputError: n_ctx is out of range, or kv_dtype is unknown.
        """
        self.model, self.attention, self.kv_cache = model, attention, kv_cache
        self.config = model.config
        self.decode_kernel = decode_kernel or attention.kernel
        self._attentions = [attention]  # all that were used
        self.n_threads = attention.n_threads
        check_choice("kv_dtype", kv_dtype, KV_DTYPES)
        self.kv_dtype = kv_dtype
        self.n_ctx = checked_n_ctx(n_ctx, self.config)
        self.ids: list[list[int]] = [[]]
        self._slots = [0]  # of the cache, one a sequence
        self._cache = self._new_cache(1)

    @property
    def kernel(self) -> Kernel:
        return self.attention.kernel

    @property
    def length(self) -> int:
        return max(map(len, self.ids), default=0)

    @property
    def calls(self) -> int:
        return sum(attention.calls for attention in self._attentions)

    @property
    def attention_seconds(self) -> float:
        return sum(attention.seconds for attention in self._attentions)

    @torch.inference_mode()
    def feed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """See `protocol.Engine`."""
        grown = [old + list(new) for old, new in zip(self.ids, ids, strict=True)]
        rows, runs = list[int](), list[Run]()
        for slot, held, new, all_of_it in zip(self._slots, self.ids, ids, grown, strict=True):
            start, fed = (0, all_of_it) if self._cache is None else (len(held), list(new))
            if new:
                runs.append(Run(slot, start, len(fed), len(rows)))
                rows += fed
        positions = torch.cat([torch.arange(run.start, run.start + run.n) for run in runs])
        wanted = torch.tensor([run.row + run.n - 1 for run in runs])
        attention = Cached(self.attention, runs, self._cache)
        logits = self.model(torch.tensor([rows]), attention, positions=positions, wanted=wanted)
        self.ids = grown  # only now: an interrupted step leaves no trace
        last: NDArray[np.float32] = logits[0].numpy()
        return last

    @contextmanager
    def using(self, kernel: Kernel) -> Iterator[None]:
        mine = self.attention
        known = (a for a in self._attentions if a.kernel is kernel)
        self.attention = next(known, None) or Attention(
            kernel, n_threads=mine.n_threads, br=mine.br, bc=mine.bc
        )
        if self.attention not in self._attentions:
            self._attentions.append(self.attention)
        try:
            yield
        finally:
            self.attention = mine

    def arrange(self, sources: Sequence[int | None]) -> None:
        ids, slots, cache = self.ids, self._slots, self._cache
        n_slots = cache.n_slots if cache else len(sources)
        if len(sources) > n_slots:
            n_slots, self._cache = len(sources), self._new_cache(len(sources))
        self._slots = assigned(slots, sources, n_slots)
        self.ids = [[] if source is None else list(ids[source]) for source in sources]
        if cache is None or self._cache is None:
            return
        for slot, source in zip(self._slots, sources, strict=True):
            if source is not None and (slot != slots[source] or self._cache is not cache):
                self._cache.copy(cache, slots[source], slot, len(ids[source]))

    def rewind(self, lengths: Sequence[int]) -> None:
        self.ids = [ids[:length] for ids, length in zip(self.ids, lengths, strict=True)]

    def clear(self) -> None:
        self.ids, self._slots = [[]], [0]
        self._cache = self._new_cache(1)

    def _new_cache(self, n_slots: int) -> KVCache | None:
        c = self.model.config
        if not self.kv_cache:
            return None
        return KVCache(
            c.n_layer, n_slots, c.n_head, self.n_ctx, c.head_dim, KV_TYPES[self.kv_dtype]
        )
