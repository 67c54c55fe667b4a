"""A kernel of yours as the attention of any Hugging Face model.

    from gpt149.integrations.transformers import register

    name = register("mine.cpp")  # "gpt149_mine"
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation=name)

The kernel runs in this process, without gradients, in float32 or bfloat16. Sliding windows,
softcaps, sinks, padding on the left and values narrower than keys go to kernels that claim them.
What the contract cannot say is refused, never ignored.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, KernelDeclined, MissingDependency
from ..kernels.dispatch import Attention
from ..kernels.registry import Kernel, locate, resolve
from ..kernels.variants import Variants
from .masks import Seen, read_mask

# What models hand on through their attention that is not for it, or that its mask says.
HARMLESS = frozenset(
    {
        "cache_position",
        "logits_to_keep",
        "num_items_in_batch",
        "output_hidden_states",
        "output_router_logits",
        "position_embeddings",
        "position_ids",
        "return_dict",
        "use_cache",
    }
)


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
        from transformers.masking_utils import AttentionMaskInterface
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
    # Without one, a padded batch would reach the kernel with no mask at all.
    AttentionMaskInterface.register(name, _mask)
    return name


def _short_name(kernel: Kernel | str | Path) -> str:
    if not isinstance(kernel, str | Path):
        return kernel.name
    source = locate(kernel)
    return source.name or (source.path.stem if source.path else str(kernel))


def _mask(config: Any = None, **asked: Any) -> Tensor | None:
    """None where the call is purely causal or full, else (batch, 1, n_q, n_kv).

    What may hide a key is said as a function of indices: only all of its values tell which it is.

    Raises:
        InputError: a model with an attention of its own, which would take None for no mask.
    """
    from transformers.masking_utils import sdpa_mask

    home = type(config).__module__.replace(".configuration_", ".modeling_")
    if home in sys.modules and not hasattr(sys.modules[home], "ALL_ATTENTION_FUNCTIONS"):
        raise InputError(
            f"models of {type(config).__name__} do not hand their attention to transformers' "
            "attention interface, and no kernel would be called. Use attn_implementation='eager'."
        )
    mask: Tensor | None = sdpa_mask(config=config, **asked)
    return mask


class _Forward:
    """What transformers calls; the output is (batch, n_q, n_head, v's head_dim)."""

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
        sliding_window: int | None = None,
        softcap: float | None = None,
        s_aux: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        who = type(module).__name__
        asked = [
            name
            for name, given in others.items()
            if name not in HARMLESS and given is not None and given is not False
        ]
        if dropout and module.training:
            asked.append("dropout")
        if asked:
            raise InputError(
                f"{who} asks its attention for {', '.join(asked)}, which a kernel cannot be told. "
                "Use attn_implementation='eager'."
            )
        tensors = [query, key, value] if s_aux is None else [query, key, value, s_aux]
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            raise InputError(
                "kernels compute no gradients: call the model under torch.inference_mode()."
            )
        batch, _, n_q, _ = query.shape
        if attention_mask is None:
            causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
            seen = _without_mask(who, causal, n_q, key.shape[2], sliding_window)
        else:
            seen = read_mask(attention_mask, batch, n_q, key.shape[2])
        variants = _variants(seen.window, softcap or 0.0, seen.kv_begin)
        if s_aux is not None:
            variants = replace(variants, sinks=s_aux.float())
        k, v = key[:, :, seen.keys], value[:, :, seen.keys]
        try:
            out = self.attention(query, k, v, causal=seen.causal, scale=scaling, variants=variants)
        except KernelDeclined as e:
            raise KernelDeclined(f"{who}: {e}") from e
        return out.transpose(1, 2).contiguous(), None


def _without_mask(who: str, causal: bool, n_q: int, n_kv: int, window: int | None) -> Seen:
    """One query sees all keys; several are aligned to the top left, before a static cache's rest.

    Raises:
        InputError: a sliding window that hides keys, and that only a mask could have said.
    """
    causal = causal and n_q > 1
    n = n_q if causal else n_kv
    if window is not None and n > window:
        raise InputError(
            f"{who} has a sliding window of {window} keys, and gives its attention {n} without a "
            "mask. Use attn_implementation='eager'."
        )
    return Seen(causal, slice(0, n))


@functools.lru_cache(maxsize=64)
def _variants(window: int, softcap: float, kv_begin: tuple[int, ...] | None) -> Variants:
    """The same object for the same values: the layers of a step are then the same call."""
    begin = None if kv_begin is None else torch.tensor(kv_begin, dtype=torch.int32, device="cpu")
    return Variants(window=window, softcap=softcap, kv_begin=begin)
