"""A kernel inside a Llama of transformers: grouped heads, rotary positions, its own generate."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from gpt149.integrations.transformers import register

IDS = torch.arange(12)[None]


def greedy(attention: str) -> list[int]:
    """What a small random model writes; from_pretrained takes the same attn_implementation."""
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=attention,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    ids = model.generate(
        IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=20, do_sample=False
    )
    new: list[int] = ids[0, IDS.shape[1] :].tolist()
    return new


def main() -> None:
    mine, eager = greedy(register("simd")), greedy("eager")
    print(mine)
    assert mine == eager


if __name__ == "__main__":
    main()
