"""The engine over model/gpt.py: every step in torch, attention by any kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from ..kernels.dispatch import Attention
from ..kernels.registry import Kernel
from ..model.cache import KVCache
from ..model.gpt import GPT
from .choices import KV_DTYPES, check_choice
from .protocol import checked_n_ctx

KV_TYPES = dict(zip(KV_DTYPES, (torch.float32, torch.bfloat16), strict=True))


class TorchEngine:
    """The model in torch with a KV cache, or recomputing everything at every step without one.

    Holds one sequence, or several after `fork`; `ids` are those that were fed so far.
    """

    name = "torch"
    dtype = "float32"

    def __init__(
        self,
        model: GPT,
        attention: Attention,
        *,
        n_ctx: int | None = None,
        kv_cache: bool = True,
        kv_dtype: str = "float32",
    ) -> None:
        """n_ctx: a context shorter than the model's; None: the model's. kv_dtype: one of KV_DTYPES.

        Raises:
            InputError: n_ctx is out of range, or kv_dtype is unknown.
        """
        self.model, self.attention, self.kv_cache = model, attention, kv_cache
        self.config, self.kernel = model.config, attention.kernel
        self.n_threads = attention.n_threads
        check_choice("kv_dtype", kv_dtype, KV_DTYPES)
        self.kv_dtype = kv_dtype
        self.n_ctx = checked_n_ctx(n_ctx, self.config)
        self.ids: list[list[int]] = [[]]
        self._cache = self._empty_cache()

    @property
    def length(self) -> int:
        """Tokens fed, the same for every sequence."""
        return len(self.ids[0])

    @property
    def calls(self) -> int:
        return self.attention.calls

    @property
    def attention_seconds(self) -> float:
        return self.attention.seconds

    @torch.inference_mode()
    def feed(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """One step: append (batch, n) ids to the sequences.

        Returns:
            The logits behind the last one, (batch, vocab_size).
        """
        grown = [old + list(new) for old, new in zip(self.ids, ids, strict=True)]
        inputs = torch.tensor(ids if self.kv_cache else grown)
        logits = self.model(inputs, self.attention, cache=self._cache, last_only=True)
        self.ids = grown  # only now: an interrupted step leaves no trace
        last: NDArray[np.float32] = logits[:, -1].numpy()
        return last

    @contextmanager
    def using(self, kernel: Kernel) -> Iterator[None]:
        mine, self.attention = self.attention, Attention(kernel, n_threads=self.n_threads)
        try:
            yield
        finally:
            self.attention = mine

    def fork(self, n: int) -> None:
        """Go on with n copies of the only sequence."""
        self.ids = [list(self.ids[0]) for _ in range(n)]
        if self._cache is not None:
            self._cache = self._cache.repeat(n)

    def rewind(self, length: int) -> None:
        """Forget what was fed behind the first `length` tokens."""
        self.ids = [ids[:length] for ids in self.ids]
        if self._cache is not None:
            self._cache.length = min(self._cache.length, length)

    def clear(self) -> None:
        """Forget the sequences; one empty one remains."""
        self.ids = [[]]
        self._cache = self._empty_cache()

    def _empty_cache(self) -> KVCache | None:
        c = self.model.config
        if not self.kv_cache:
            return None
        return KVCache(c.n_layer, 1, c.n_head, self.n_ctx, c.head_dim, KV_TYPES[self.kv_dtype])
