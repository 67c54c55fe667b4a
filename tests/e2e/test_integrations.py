"""Kernels inside transformers' models and torch.compile, against eager."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import gpt149.integrations.torch_ops as torch_ops
from gpt149.errors import InputError
from gpt149.integrations.transformers import _as_causal, register
from gpt149.system.paths import shipped

SMALL = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 2, "intermediate_size": 96}
GROUPED = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2}
CONFIGS: dict[str, Any] = {
    "gpt2": transformers.GPT2Config(vocab_size=97, n_embd=48, n_layer=2, n_head=4, n_positions=64),
    "llama": transformers.LlamaConfig(**GROUPED),
    "qwen2": transformers.Qwen2Config(**GROUPED),
    "qwen3": transformers.Qwen3Config(**GROUPED, head_dim=16),
    "gpt_neox": transformers.GPTNeoXConfig(**SMALL, num_attention_heads=4),
}
KERNELS = ("naive", "flash", "simd")
IDS = torch.arange(2 * 23).reshape(2, 23) * 7 % 96  # 96 pads


def models(family: str, kernel: str) -> tuple[Any, Any]:
    """The same random weights with eager attention and with the kernel."""
    pair = []
    for attention in ("eager", register(kernel)):
        torch.manual_seed(0)
        config = copy.deepcopy(CONFIGS[family])  # it carries the choice of attention
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        for p in model.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.2)
        pair.append(model.eval())
    return pair[0], pair[1]


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("kernel", KERNELS)
@torch.inference_mode()
def test_prefill_decode_and_generate(family: str, kernel: str) -> None:
    eager, mine = models(family, kernel)
    torch.testing.assert_close(mine(IDS).logits, eager(IDS).logits, rtol=1e-4, atol=2e-4)
    caches: list[Any] = [None, None]
    for start, end in ((0, 9), (9, 10), (10, 16), (16, 17)):
        logits = []
        for i, model in enumerate((eager, mine)):
            out = model(IDS[:, start:end], past_key_values=caches[i], use_cache=True)
            caches[i] = out.past_key_values
            logits.append(out.logits)
        torch.testing.assert_close(logits[1], logits[0], rtol=1e-4, atol=2e-4)
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 96}
    texts = [model.generate(IDS[:1], **settings) for model in (eager, mine)]
    assert torch.equal(texts[0], texts[1])


@torch.inference_mode()
def test_a_static_cache(tmp_path: Path) -> None:
    """Its keys behind the last token are masked; the contract is then given fewer keys."""
    eager, mine = models("llama", "simd")
    settings = {"max_new_tokens": 8, "do_sample": False, "cache_implementation": "static"}
    texts = [model.generate(IDS[:1], pad_token_id=96, **settings) for model in (eager, mine)]
    assert torch.equal(texts[0], texts[1])


@torch.inference_mode()
def test_what_the_contract_cannot_say_is_refused() -> None:
    _, mine = models("llama", "simd")
    padding = torch.ones(2, 23, dtype=torch.long)
    padding[1, :5] = 0
    with pytest.raises(InputError, match="padding and sliding windows"):
        mine(IDS, attention_mask=padding)
    assert mine(IDS, attention_mask=torch.ones(2, 23, dtype=torch.long)).logits.isfinite().all()
    windowed = transformers.MistralConfig(**GROUPED, sliding_window=4)
    model = transformers.AutoModelForCausalLM.from_config(
        windowed, attn_implementation=register("simd")
    )
    with pytest.raises(InputError, match="padding and sliding windows"):
        model.eval()(IDS)


def test_gradients_are_refused() -> None:
    _, mine = models("gpt2", "simd")
    with pytest.raises(InputError, match="no gradients"):
        mine(IDS)


@torch.inference_mode()
def test_a_file_of_ones_own_gets_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.cpp"
    file.write_text((shipped("csrc") / "kernels" / "naive.cpp").read_text())
    assert register(str(file)) == "gpt149_mine"
    eager, mine = models("qwen2", str(file))
    torch.testing.assert_close(mine(IDS).logits, eager(IDS).logits, rtol=1e-4, atol=2e-4)


@torch.inference_mode()
def test_a_wrong_kernel_shows() -> None:
    """The negative control."""
    eager, mine = models("llama", "tests/wrong_kernels/zeros.cpp")
    assert not torch.allclose(mine(IDS).logits, eager(IDS).logits, atol=1e-2)


@pytest.mark.parametrize("kernel", ["simd", "torch", "reference"])
def test_the_operator_passes_torchs_own_checks(kernel: str) -> None:
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 2, 9, 16)
    torch.library.opcheck(torch_ops.attention, (q, k, k, True, None, kernel))
    want = torch.nn.functional.scaled_dot_product_attention(
        q, k, k, is_causal=True, enable_gqa=True
    )
    got = torch.ops.gpt149.attention(q, k, k, True, None, kernel)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_torch_compile_keeps_one_graph() -> None:
    def layer(q: torch.Tensor) -> torch.Tensor:
        return torch.relu(torch.ops.gpt149.attention(q, q, q, True)) + 1

    q = torch.randn(1, 2, 9, 16)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q), layer(q))


@pytest.mark.parametrize("hidden", [float("-inf"), torch.finfo(torch.float32).min])
def test_masks_of_floats_are_read_where_they_only_hide(hidden: float) -> None:
    mask = torch.full((1, 1, 3, 5), 0.0).masked_fill(~torch.ones(3, 5).tril(1).bool(), hidden)
    assert _as_causal(mask, 3, 5) == (True, 4)
    biased = mask.clone()
    biased[..., 4] = -1.0
    with pytest.raises(InputError, match="nor are biases"):
        _as_causal(biased, 3, 5)
