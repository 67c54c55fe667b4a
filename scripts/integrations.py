"""Kernels inside transformers' models: how far their logits are from eager attention in float64.

    pip install '.[hf]'
    python scripts/integrations.py

Small models with random weights; prefill of 23 tokens, then decode with a KV cache. Prints one
Markdown table of the largest error, in units of the logits' standard deviation; a dash where the
kernel does not claim what the model needs.
"""

from __future__ import annotations

import copy
from typing import Any

import click
import torch
import transformers
from torch import Tensor

from gpt149.errors import KernelDeclined
from gpt149.integrations.transformers import register
from gpt149.kernels.registry import CONTRACT_BUILTINS

SIZES = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 128}
FOUR_HEADS = {**SIZES, "num_attention_heads": 4}
GROUPED = {**FOUR_HEADS, "num_key_value_heads": 2}
WINDOWED = {**GROUPED, "sliding_window": 8}
EXPERTS = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16}
FAMILIES = {
    "GPT-2": transformers.GPT2Config(vocab_size=97, n_embd=64, n_layer=3, n_head=4),
    "GPT-NeoX": transformers.GPTNeoXConfig(**FOUR_HEADS),
    "Llama": transformers.LlamaConfig(**GROUPED),
    "Qwen2": transformers.Qwen2Config(**GROUPED),
    "Qwen3": transformers.Qwen3Config(**GROUPED, head_dim=16),
    "Mistral": transformers.MistralConfig(**WINDOWED),
    "Phi 3": transformers.Phi3Config(**WINDOWED, pad_token_id=96),
    "Gemma 2": transformers.Gemma2Config(**WINDOWED, head_dim=16, attn_logit_softcapping=2.0),
    "Gemma 3": transformers.Gemma3TextConfig(
        **WINDOWED, head_dim=16, layer_types=["sliding_attention"] * 2 + ["full_attention"]
    ),
    "gpt-oss": transformers.GptOssConfig(
        **WINDOWED, head_dim=16, num_local_experts=4, num_experts_per_tok=2
    ),
    "DeepSeek V3": transformers.DeepseekV3Config(
        **FOUR_HEADS, **LATENT, **EXPERTS, v_head_dim=12, n_group=1, topk_group=1,
        first_k_dense_replace=1, num_key_value_heads=4,
    ),
}  # fmt: skip
N_PREFILL, N_DECODE, STD = 23, 8, 0.1


def logits(config: Any, attention: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of the prefill, and of the decode steps behind it."""
    torch.manual_seed(149)
    config = copy.deepcopy(config)  # it carries the choice of attention
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, experts_implementation="eager"
    )
    for name, p in model.named_parameters():
        if p.dim() > 1 or name.endswith("sinks"):
            torch.nn.init.normal_(p, std=STD if p.dim() > 1 else 1.0)
    model = model.to(dtype).eval()
    ids = torch.arange(2 * (N_PREFILL + N_DECODE)).reshape(2, -1) * 7 % 97
    out = model(ids[:, :N_PREFILL], use_cache=True)
    steps = []
    for i in range(N_PREFILL, N_PREFILL + N_DECODE):
        step = model(ids[:, i : i + 1], past_key_values=out.past_key_values, use_cache=True)
        steps.append(step.logits)
    return out.logits, torch.cat(steps, 1)


@click.command(help=__doc__)
def main() -> None:
    transformers.logging.set_verbosity_error()
    kernels = [*CONTRACT_BUILTINS, "eager"]
    click.echo(f"| model | step | {' | '.join(kernels)} |")
    click.echo(f"|---|---|{'---:|' * len(kernels)}")
    for family, config in FAMILIES.items():
        with torch.inference_mode():
            exact = logits(config, "eager", torch.float64)
            errors = [_errors(config, name, exact) for name in kernels]
        for step, name in enumerate(("prefill", "decode")):
            click.echo(f"| {family} | {name} | {' | '.join(e[step] for e in errors)} |")


def _errors(config: Any, kernel: str, exact: tuple[Tensor, Tensor]) -> tuple[str, ...]:
    """Of the prefill and of the decode steps, in words."""
    try:
        found = logits(config, kernel if kernel == "eager" else register(kernel), torch.float32)
    except KernelDeclined:
        return "-", "-"
    both = zip(found, exact, strict=True)
    return tuple(f"{float((f.double() - e).abs().max() / e.std()):.1e}" for f, e in both)


if __name__ == "__main__":
    main()
