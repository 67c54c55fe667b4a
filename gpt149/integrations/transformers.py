"""A kernel of yours as the attention of any Hugging Face model.

    from gpt149.integrations.transformers import register

    name = register("mine.cpp")  # "gpt149_mine"
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation=name)

The kernel runs in this process, in float32, without gradients. Masks that the contract cannot say
(padding, sliding windows) are refused, never ignored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, MissingDependency
from ..kernels.dispatch import Attention
from ..kernels.registry import Kernel, locate, resolve

# What a model may ask of its attention besides a mask and a scale.
UNSUPPORTED = ("softcap", "position_bias", "s_aux", "head_mask")


def register(
    kernel: Kernel | str | Path, *, name: str | None = None, n_threads: int | None = None
) -> str:
    """Make a kernel known to transformers (5 or later), with its mask function.

    Args:
        kernel: a kernel's name, a path, or what `resolve` returned.
        name: for attn_implementation; None: gpt149_ and the kernel's or the file's name
            ("tiles" for "flash", which transformers keeps for itself).
        n_threads: at most; None: every processor.

    Returns:
        The name.

    Raises:
        MissingDependency: there is no transformers that can be told.
        Gpt149Error: the kernel cannot be had; see `kernels.resolve`.
    """
    try:
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    except ImportError as e:
        raise MissingDependency(
            f"registering a kernel needs transformers 5 ({e}): pip install 'gpt149[hf]'."
        ) from e
    if name is None:
        # transformers takes every name with "flash" in it for a package of that kind.
        name = f"gpt149_{_short_name(kernel)}".replace("flash", "tiles")
    if isinstance(kernel, str | Path):
        kernel = resolve(kernel)
    AttentionInterface.register(name, _Forward(Attention(kernel, n_threads=n_threads)))
    # Without one, a padded batch would reach the kernel with no mask at all. This one gives None
    # where the call is purely causal, else (batch, 1, n_q, n_kv).
    AttentionMaskInterface.register(name, sdpa_mask)
    return name


def _short_name(kernel: Kernel | str | Path) -> str:
    if not isinstance(kernel, str | Path):
        return kernel.name
    source = locate(kernel)
    return source.name or (source.path.stem if source.path else str(kernel))


class _Forward:
    """What transformers calls; the output is (batch, n_q, n_head, head_dim)."""

    def __init__(self, attention: Attention) -> None:
        self.attention = attention

    def __call__(
        self,
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        is_causal: bool | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        asked = [what for what in UNSUPPORTED if others.get(what) is not None]
        if asked or (dropout and module.training):
            raise InputError(
                f"{type(module).__name__} asks its attention for {', '.join(asked) or 'dropout'}, "
                "which the kernel contract cannot say. Use attn_implementation='eager'."
            )
        if torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value)):
            raise InputError(
                "kernels compute no gradients: call the model under torch.inference_mode()."
            )
        n_q, n_kv = query.shape[2], key.shape[2]
        if attention_mask is None:
            causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
            if causal and n_q > 1:  # aligned to the top left: behind may be a static cache's rest
                n_kv = n_q
        else:
            causal, n_kv = _as_causal(attention_mask, n_q, n_kv)
        out = self.attention(
            query, key[:, :, :n_kv], value[:, :, :n_kv], causal=causal, scale=scaling
        )
        return out.transpose(1, 2).contiguous(), None


def _as_causal(mask: Tensor, n_q: int, n_kv: int) -> tuple[bool, int]:
    """(causal, keys that count) of a mask that the contract can say.

    Either everybody sees the same first keys, or query i sees i more than the first one does: a
    causal mask, with keys of a static cache behind it that nobody sees.

    Raises:
        InputError: it is another mask.
    """
    sees = mask if mask.dtype == torch.bool else mask == 0
    biased = mask.dtype != torch.bool and bool((~sees & (mask > torch.finfo(mask.dtype).min)).any())
    counts = sees.sum(-1)
    first = int(counts.flatten()[0])
    from_the_start = not biased and torch.equal(sees, torch.arange(n_kv) < counts[..., None])
    if from_the_start and first > 0:
        if bool((counts == first).all()):
            return False, first
        if torch.equal(counts, (first + torch.arange(n_q)).expand_as(counts)):
            return True, first + n_q - 1
    raise InputError(
        f"the mask {tuple(mask.shape)} is not causal over the same keys for the whole batch: "
        "padding and sliding windows are not in the kernel contract, nor are biases. Run sequences "
        "of one length together, or use attn_implementation='sdpa'."
    )
