"""How well a model predicts a text: nats a token and a character."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.gpt import GPT, AttentionFn
    from .native import NativeEngine


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
    from torch.nn import functional as F

    total = 0.0
    for first, end, logits in scored_logits(model, ids, attention, n_ctx=n_ctx):
        total += F.cross_entropy(logits.cpu(), ids[first:end].cpu(), reduction="sum").item()
        on_tokens(end - first)
    return total


def scored_logits(
    model: GPT, ids: Tensor, attention: AttentionFn, *, n_ctx: int | None = None
) -> Iterator[tuple[int, int, Tensor]]:
    """(first, end, what is predicted for ids[first:end]) for each window of `total_nats`."""
    import torch

    device = next(model.parameters()).device
    for start, first, end in _windows(len(ids), n_ctx or model.config.n_ctx):
        with torch.inference_mode():
            logits = model(ids[None, start : end - 1].to(device), attention)[0].float()
        yield first, end, logits[first - start - 1 :]


def total_nats_native(
    engine: NativeEngine,
    ids: Sequence[int],
    *,
    n_ctx: int | None = None,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> float:
    """The same by the native engine, whose sequence is forgotten."""
    total = 0.0
    for start, first, end in _windows(len(ids), n_ctx or engine.n_ctx):
        engine.clear()
        logits = engine.logits(ids[start : end - 1])[first - start - 1 :].astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        chosen = logits[np.arange(end - first), ids[first:end]]
        total += float((np.log(np.exp(logits).sum(-1)) - chosen).sum())
        on_tokens(end - first)
    return total


def _windows(n_ids: int, n_ctx: int) -> Iterator[tuple[int, int, int]]:
    """(start, first, end): ids from start to end, of which those from `first` on are scored."""
    first = 1
    while first < n_ids:
        start = max(0, first - n_ctx // 2)
        end = min(start + n_ctx + 1, n_ids)
        yield start, first, end
        first = end
