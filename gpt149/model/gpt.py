"""GPT-2 in torch: learned positions, pre-LN blocks, a fused QKV projection and a tied head.

Read top-down: `GPT.forward` is a step, `Block` a layer, `CausalSelfAttention` the one place that
calls the attention kernel. The kernel comes in as an argument, so this file knows none of them,
and no KV cache.

Parameter names are those of GPT-2's files on the Hugging Face hub (`h.0.attn.c_attn.weight`).
Architecture: Radford et al. 2019; layout of the code after nanoGPT.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import GPTConfig


class AttentionFn(Protocol):
    """softmax(scale * Q K^T + mask) V; see `gpt149.kernels.dispatch.attention` for shapes."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float
    ) -> Tensor: ...


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {  # of config.ACTIVATIONS
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "gelu_fast": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class CausalSelfAttention(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        self.n_head, self.head_dim = config.n_head, config.head_dim
        self.layer, self.scale = layer, config.scale(layer)
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor, attention: AttentionFn) -> Tensor:
        batch, n, n_embd = x.shape
        qkv = self.c_attn(x).view(batch, n, 3, self.n_head, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()  # each (batch, n_head, n, head_dim)
        y = attention(q, k, v, causal=True, scale=self.scale)
        out: Tensor = self.c_proj(y.transpose(1, 2).reshape(batch, n, n_embd))
        return out


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        n_inner = config.n_inner or 4 * config.n_embd
        self.c_fc = nn.Linear(config.n_embd, n_inner, bias=config.bias)
        self.c_proj = nn.Linear(n_inner, config.n_embd, bias=config.bias)
        self.activation = FUNCTIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(self.activation(self.c_fc(x)))
        return out


class Block(nn.Module):
    def __init__(self, config: GPTConfig, layer: int) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, config.n_embd, config.layer_norm_epsilon, bias=config.bias)
        self.ln_1 = norm()
        self.attn = CausalSelfAttention(config, layer)
        self.ln_2 = norm()
        self.mlp = MLP(config)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, attention: AttentionFn) -> Tensor:
        x = x + self.drop(self.attn(self.ln_1(x), attention))
        x = x + self.drop(self.mlp(self.ln_2(x)))
        return x


def _embedding(n: int, width: int) -> nn.Embedding:
    # Given its weight it draws none: a normal draw on the meta device imports torch's compiler.
    return nn.Embedding(n, width, _weight=torch.empty(n, width))


class GPT(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = _embedding(config.vocab_size, config.n_embd)
        self.wpe = _embedding(config.n_ctx, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon, bias=config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.wte.weight

    def forward(
        self,
        ids: Tensor,
        attention: AttentionFn,
        *,
        positions: Tensor | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """One step: the logits that follow each of `ids`.

        Args:
            ids: (batch, n) token ids.
            attention: called once a layer, with this step's queries, keys and values; it may know
                earlier ones (cache.py).
            positions: (n,), where ids stand in their sequence; None: from 0 on.
            wanted: compute the logits at these indices of ids alone.

        Returns:
            float32 logits (batch, n, vocab_size), n being the length of `wanted` if that is given.
        """
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.drop(self.wte(ids) + self.wpe(positions))
        for block in self.h:
            x = block(x, attention)
        if wanted is not None:
            x = x[:, wanted]
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """GPT-2's initialisation: N(0, 0.02), residual projections 1/sqrt(2 n_layer) of it."""
        for name, p in self.named_parameters():
            if p.dim() == 2:
                residual = name.endswith("c_proj.weight")
                std = 0.02 * ((2 * self.config.n_layer) ** -0.5 if residual else 1.0)
                nn.init.normal_(p, std=std, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
            else:
                nn.init.ones_(p)
