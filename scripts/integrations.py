"""Kernels inside transformers' models: how far their logits are from eager attention in float64.

    pip install '.[hf]'
    python scripts/integrations.py

Small models with random weights; prefill of 23 tokens, then decode with a KV cache. Prints one
Markdown table of the largest error, in units of the logits' standard deviation.
"""

from __future__ import annotations

import copy
from typing import Any

import click
import torch
import transformers
from torch import Tensor

from gpt149.integrations.transformers import register
from gpt149.kernels.registry import CONTRACT_BUILTINS

SIZES = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 3, "intermediate_size": 128}
GROUPED = {**SIZES, "num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES = {
    "GPT-2": transformers.GPT2Config(vocab_size=97, n_embd=64, n_layer=3, n_head=4),
    "GPT-NeoX": transformers.GPTNeoXConfig(**SIZES, num_attention_heads=4),
    "Llama": transformers.LlamaConfig(**GROUPED),
    "Qwen2": transformers.Qwen2Config(**GROUPED),
    "Qwen3": transformers.Qwen3Config(**GROUPED, head_dim=16),
}
N_PREFILL, N_DECODE, STD = 23, 8, 0.1


def logits(config: Any, attention: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of the prefill, and of the decode steps behind it."""
    torch.manual_seed(149)
    config = copy.deepcopy(config)  # it carries the choice of attention
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for p in model.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=STD)
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
            found = [
                logits(config, name if name == "eager" else register(name), torch.float32)
                for name in kernels
            ]
        for step, name in enumerate(("prefill", "decode")):
            errors = [
                float((f[step].double() - exact[step]).abs().max() / exact[step].std())
                for f in found
            ]
            click.echo(f"| {family} | {name} | {' | '.join(f'{e:.1e}' for e in errors)} |")


if __name__ == "__main__":
    main()
