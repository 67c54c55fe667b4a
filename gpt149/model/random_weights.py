"""Architectures of known models with seeded random weights, for measuring without a download."""

from __future__ import annotations

from ..errors import CheckpointError
from .config import GPTConfig
from .formats.tensors import Arrays

# n_layer, n_head, n_embd, n_ctx, vocab_size
ARCHITECTURES = {
    "tiny": (4, 4, 128, 1024, 65),  # cs149gpt's size
    "distilgpt2": (6, 12, 768, 1024, 50257),
    "gpt2": (12, 12, 768, 1024, 50257),
    "gpt2-medium": (24, 16, 1024, 1024, 50257),
    "gpt2-large": (36, 20, 1280, 1024, 50257),
    "gpt2-xl": (48, 25, 1600, 1024, 50257),
}
SEED = 149


def draw(name: str) -> tuple[GPTConfig, Arrays]:
    """An architecture's config and weights, the same every time.

    Raises:
        CheckpointError: it is none of ARCHITECTURES.
    """
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"unknown architecture '{name}' for random weights. Known: {', '.join(ARCHITECTURES)}."
        )
    import torch

    from .gpt import GPT

    n_layer, n_head, n_embd, n_ctx, vocab_size = ARCHITECTURES[name]
    config = GPTConfig(n_layer, n_head, n_embd, n_ctx, vocab_size)
    with torch.device("meta"):
        model = GPT(config)
    model = model.to_empty(device="cpu")
    if config.tie_word_embeddings:
        model.lm_head.weight = model.wte.weight
    with torch.no_grad():
        model.init_weights(torch.Generator().manual_seed(SEED))
    weights = {name: p.detach().numpy() for name, p in model.state_dict().items()}
    weights["lm_head.weight"] = weights["wte.weight"]
    return config, weights
