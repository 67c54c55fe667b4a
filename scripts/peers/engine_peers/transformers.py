"""Transformers of Hugging Face, which reads the model as it is: pip install transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import Stepper


class Transformers(Stepper):
    name, batches = "transformers", True
    needs = ("torch", "transformers")

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        import torch
        from transformers import GPT2LMHeadModel

        torch.set_num_threads(n_threads)
        torch.set_grad_enabled(False)
        self.n_ctx, self.n_batch = n_ctx, n_batch
        self.model = GPT2LMHeadModel.from_pretrained(str(model)).eval()
        self.step: Any = self.model
        self.reset()

    def reset(self) -> None:
        from transformers import DynamicCache

        self.cache: Any = DynamicCache(config=self.model.config)

    def feed(self, ids: list[int]) -> Any:
        import torch

        run = self.step if len(ids) == 1 else self.model
        out = run(torch.tensor([ids]), past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[0, -1]

    def share(self) -> None:
        self.cache.batch_repeat_interleave(self.n_batch)

    def feed_each(self, tokens: list[int]) -> Any:
        import torch

        ids = torch.tensor(tokens)[:, None]
        return self.model(ids, past_key_values=self.cache, use_cache=True).logits[:, -1]


class TransformersCompiled(Transformers):
    """With a static cache, and decode steps through torch.compile."""

    name, batches = "transformers, static cache + compile", False

    def __init__(self, model: Path, n_threads: int, n_ctx: int, n_batch: int) -> None:
        import torch

        super().__init__(model, n_threads, n_ctx, n_batch)
        self.step = torch.compile(self.model)

    def reset(self) -> None:
        from transformers import StaticCache

        self.cache = StaticCache(config=self.model.config, max_cache_len=self.n_ctx)


PEERS = (Transformers, TransformersCompiled)
