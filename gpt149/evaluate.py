"""How well a model predicts a text: nats a token and a character."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .model import GPT, AttentionFn


@torch.inference_mode()
def total_nats(
    model: GPT,
    ids: Tensor,
    attention: AttentionFn,
    *,
    n_ctx: int | None = None,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> float:
    """Summed -log p of ids[1:], (n,), each scored once.

    Windows of n_ctx tokens (None: the model's context) overlap by half, so a token has at least
    n_ctx/2 tokens before it wherever the text has them. `on_tokens` hears how many were scored.
    """
    n_ctx = model.config.n_ctx if n_ctx is None else n_ctx
    device = next(model.parameters()).device
    total, done = 0.0, 1
    while done < len(ids):
        start = max(0, done - n_ctx // 2)
        window = ids[start : start + n_ctx + 1].to(device)
        logits = model(window[None, :-1], attention)[0].float()
        fresh = window[done - start :]
        scored = logits[done - start - 1 :]
        total += F.cross_entropy(scored, fresh, reduction="sum").item()
        done += len(fresh)
        on_tokens(len(fresh))
    return total
