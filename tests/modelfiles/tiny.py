"""A tiny model of GPT-2's architecture, its logits, and how a bad file of it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt149.errors import CheckpointError, TokenizerError
from gpt149.kernels.dispatch import Attention
from gpt149.model.checkpoint import load
from gpt149.model.config import GPTConfig
from gpt149.model.gpt import GPT

Tensors = dict[str, Tensor]
N_CTX, VOCAB_SIZE = 64, 65
TINY = GPTConfig(n_layer=2, n_head=4, n_embd=32, n_ctx=N_CTX, vocab_size=VOCAB_SIZE)
IDS = torch.randint(0, VOCAB_SIZE, (2, 48), generator=torch.Generator().manual_seed(1))


def logits(model: GPT, kernel: str = "reference") -> Tensor:
    with torch.inference_mode():
        result: Tensor = model(IDS, Attention(kernel))
    return result


def assert_same(got: Tensor, want: Tensor) -> None:
    """Equal to float32 rounding; logits here are of size 1 to 10."""
    assert want.abs().max() > 1
    torch.testing.assert_close(got.double(), want.double(), rtol=1e-4, atol=1e-4)


def spread_(model: torch.nn.Module) -> None:
    """Weights so large that a change of any part shows in the logits."""
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        centre = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(p, centre, 0.3, generator=generator)


def random_model(**choices: Any) -> GPT:
    model = GPT(replace(TINY, **choices))
    spread_(model)
    return model.eval().requires_grad_(False)


def refusal(spec: object, kind: type[Exception] = CheckpointError, **settings: Any) -> str:
    """The message with which it is refused: a sentence, not the lines of a library."""
    with pytest.raises(kind) as e:
        load(str(spec), **settings)
    message = str(e.value)
    assert "\n" not in message
    return message


def text_refusal(spec: object, **settings: Any) -> str:
    """The message with which a text is refused, where the model itself loads."""
    with pytest.raises(TokenizerError) as e:
        load(str(spec), **settings).need_tokenizer()
    message = str(e.value)
    assert "\n" not in message
    return message


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix("transformer."): t for name, t in tensors.items()}


def with_prefix(tensors: Tensors) -> Tensors:
    return {f"transformer.{name}": t for name, t in without_prefix(tensors).items()}


def without(tensors: Tensors, name: str) -> Tensors:
    return {n: t for n, t in tensors.items() if n != name}
