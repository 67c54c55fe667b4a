"""The shape of a model, and the names and shapes of its tensors; no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointError
from ..system.words import brief

LARGEST_SIZE = 2**24  # of any dimension: keeps sizes of damaged files from overflowing
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "relu")

# Stored (in, out) by GPT-2's Conv1D, (out, in) by nn.Linear.
CONV1D = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a model and the few choices in which GPT-2's descendants differ."""

    n_layer: int
    n_head: int
    n_embd: int
    n_ctx: int
    vocab_size: int
    n_inner: int | None = None  # width of the MLP; None: 4 n_embd
    activation: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    bias: bool = True
    scale_attn: bool = True  # 1 / sqrt(head_dim); False: 1.0, as in cs149gpt
    scale_attn_by_layer: bool = False  # divide the scale by the layer's number, from 1
    tie_word_embeddings: bool = True
    dropout: float = 0.0  # of embeddings and residuals, in training only

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    def scale(self, layer: int) -> float:
        """What the scores of this layer (from 0) are multiplied by before the softmax."""
        scale = self.head_dim**-0.5 if self.scale_attn else 1.0
        return scale / (layer + 1) if self.scale_attn_by_layer else scale

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor's name on the Hugging Face hub and its shape, matrices (out, in).

        One after the other: n_layer is believed only as far as a file has the layers.
        """
        n, inner = self.n_embd, self.n_inner or 4 * self.n_embd
        yield "wte.weight", (self.vocab_size, n)
        yield "wpe.weight", (self.n_ctx, n)
        for layer in range(self.n_layer):
            for name, shape in (
                ("ln_1", (n,)),
                ("attn.c_attn", (3 * n, n)),
                ("attn.c_proj", (n, n)),
                ("ln_2", (n,)),
                ("mlp.c_fc", (inner, n)),
                ("mlp.c_proj", (n, inner)),
            ):
                yield f"h.{layer}.{name}.weight", shape
                if self.bias:
                    yield f"h.{layer}.{name}.bias", shape[:1]
        yield "ln_f.weight", (n,)
        if self.bias:
            yield "ln_f.bias", (n,)
        yield "lm_head.weight", (self.vocab_size, n)

    def check(self, path: Path) -> None:
        """Raise CheckpointError, with the path that it was read from, unless it can be run."""
        sizes = {
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "n_embd": self.n_embd,
            "n_ctx": self.n_ctx,
            "vocab_size": self.vocab_size,
            "n_inner": 1 if self.n_inner is None else self.n_inner,
        }
        for name, value in sizes.items():
            if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
                raise CheckpointError(
                    f"{path}: {name} is {brief(value)}, and must be a whole number from 1 to "
                    f"{LARGEST_SIZE}."
                )
        for name in ("scale_attn", "scale_attn_by_layer", "tie_word_embeddings", "bias"):
            if type(getattr(self, name)) is not bool:
                raise CheckpointError(
                    f"{path}: {name} is {brief(getattr(self, name))}, not true or false."
                )
        epsilon = self.layer_norm_epsilon
        if not isinstance(epsilon, float | int) or not 0 <= epsilon < 1:
            raise CheckpointError(
                f"{path}: layer_norm_epsilon is {brief(epsilon)}, and must be a number from 0 to 1."
            )
        if self.n_embd % self.n_head:
            raise CheckpointError(
                f"{path}: n_head={self.n_head} does not divide n_embd={self.n_embd}."
            )
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            raise CheckpointError(
                f"{path}: activation {brief(self.activation)} is not one of "
                f"{', '.join(ACTIVATIONS)}."
            )
