"""Kernels inside transformers' models, against eager attention in float64."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from gpt149.errors import InputError, KernelDeclined
from gpt149.integrations.transformers import register
from gpt149.system.paths import shipped

SMALL = {"vocab_size": 97, "hidden_size": 48, "num_hidden_layers": 2, "intermediate_size": 96}
FOUR_HEADS = {**SMALL, "num_attention_heads": 4}
GROUPED = {**FOUR_HEADS, "num_key_value_heads": 2}
WINDOWED = {**GROUPED, "sliding_window": 5}
EXPERTS = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2}
GPT2 = {"vocab_size": 97, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 64}
LATENT = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16}
CONFIGS: dict[str, Any] = {
    "gpt2": transformers.GPT2Config(**GPT2),
    "llama": transformers.LlamaConfig(**GROUPED),
    "qwen3": transformers.Qwen3Config(**GROUPED, head_dim=16),
    "gpt_neox": transformers.GPTNeoXConfig(**FOUR_HEADS),
    "mistral": transformers.MistralConfig(**WINDOWED),
    "phi3": transformers.Phi3Config(**WINDOWED, pad_token_id=96),
    "qwen2": transformers.Qwen2Config(**WINDOWED, use_sliding_window=True, max_window_layers=1),
    "gemma2": transformers.Gemma2Config(**WINDOWED, head_dim=16, attn_logit_softcapping=2.0),
    "gemma3": transformers.Gemma3TextConfig(
        **WINDOWED, head_dim=16, layer_types=["sliding_attention", "full_attention"]
    ),
    "gpt_oss": transformers.GptOssConfig(
        **WINDOWED, head_dim=16, num_local_experts=4, num_experts_per_tok=2
    ),
    "deepseek": transformers.DeepseekV3Config(
        **FOUR_HEADS, **LATENT, **EXPERTS, v_head_dim=12, n_group=1, topk_group=1,
        first_k_dense_replace=1, num_key_value_heads=4,
    ),
}  # fmt: skip
CHUNKS = ((0, 9), (9, 10), (10, 16), (16, 17), (17, 23))
IDS = torch.arange(2 * 23).reshape(2, 23) * 7 % 96  # 96 pads
PADDING = torch.ones_like(IDS)
PADDING[1, :7] = 0  # longer than the window
WHOLE = torch.ones_like(IDS)
KERNELS = ("naive", "flash", "simd")
TIGHT: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-4}


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def model(family: str, attention: str, dtype: torch.dtype = torch.float32) -> Any:
    """The same random weights whichever the attention."""
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[family])  # it carries the choice of attention
    made = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, experts_implementation="eager"
    )
    for name, p in made.named_parameters():
        if p.dim() > 1 or name.endswith("sinks"):
            nn.init.normal_(p, std=0.2 if p.dim() > 1 else 2.0)
    return made.to(dtype).eval()


def exact(family: str, padding: Tensor) -> list[Tensor]:
    """Logits of each sequence by itself, without its padding, from eager attention in float64."""
    eager = model(family, "eager", torch.float64)
    return [eager(ids[mask.bool()][None]).logits[0] for ids, mask in zip(IDS, padding, strict=True)]


def chunked(mine: Any, padding: Tensor, chunks: Sequence[tuple[int, int]], cache: str) -> Tensor:
    """Logits (batch, n, vocabulary) of chunks behind one another in a cache."""
    held: Any = None
    if cache == "static":
        held = transformers.StaticCache(config=mine.config, max_cache_len=30)
    positions = (padding.cumsum(-1) - 1).clamp(min=0)
    logits = []
    for start, end in chunks:
        out = mine(
            IDS[:, start:end],
            attention_mask=padding[:, :end],
            position_ids=positions[:, start:end],
            past_key_values=held,
            use_cache=True,
        )
        held = out.past_key_values
        logits.append(out.logits)
    return torch.cat(logits, 1)


@pytest.mark.parametrize("padding", [WHOLE, PADDING], ids=["whole", "padded"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", CONFIGS)
def test_prefill_chunks_and_decode(family: str, kernel: str, padding: Tensor) -> None:
    mine, want = model(family, register(kernel)), exact(family, padding)
    found = [chunked(mine, padding, c, "dynamic") for c in ([(0, 23)], CHUNKS)]
    found.append(chunked(mine, padding, CHUNKS, "static"))
    for logits in found:
        for b, alone in enumerate(want):
            torch.testing.assert_close(logits[b, -len(alone) :].double(), alone.double(), **TIGHT)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", CONFIGS)
def test_generate_from_a_padded_batch(family: str, cache: str) -> None:
    eager, mine = model(family, "eager", torch.float64), model(family, register("simd"))
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 96, "eos_token_id": 95}
    texts = mine.generate(IDS, attention_mask=PADDING, cache_implementation=cache, **settings)
    for ids, mask, text in zip(IDS, PADDING, texts, strict=True):
        alone = eager.generate(ids[mask.bool()][None], **settings)[0]
        n = int(mask.sum())
        assert text[len(ids) : len(ids) + len(alone) - n].tolist() == alone[n:].tolist()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("family", CONFIGS)
def test_bfloat16_is_as_near_as_eager(family: str, kernel: str) -> None:
    want = model(family, "eager", torch.float64)(IDS).logits
    errors = []
    for attention in ("eager", register(kernel)):
        logits = model(family, attention, torch.bfloat16)(IDS).logits
        assert logits.dtype == torch.bfloat16
        errors.append(float((logits - want).square().mean().sqrt()))
    assert errors[1] < 1.5 * errors[0] < 0.3 * float(want.std())


@pytest.mark.parametrize(
    ("family", "padding", "dtype", "why"),
    [
        ("mistral", False, torch.float32, "MistralAttention: .* a sliding window"),
        ("gemma2", False, torch.float32, "Gemma2Attention: .* a softcap"),
        ("gpt_oss", False, torch.float32, "GptOssAttention: .* sinks"),
        ("deepseek", False, torch.float32, "DeepseekV3Attention: .* another length"),
        ("gpt2", True, torch.float32, "GPT2Attention: .* padding on the left"),
        ("llama", False, torch.bfloat16, "LlamaAttention: .* queries and output in bfloat16"),
    ],
)
def test_what_a_kernel_does_not_claim_is_declined(
    family: str, padding: bool, dtype: torch.dtype, why: str
) -> None:
    mine = model(family, register("tests/right_kernels/plain_sequential.cpp"), dtype)
    with pytest.raises(KernelDeclined, match=why):
        mine(IDS, attention_mask=PADDING if padding else None)


def test_what_a_mask_does_not_hide_no_kernel_must_claim() -> None:
    """Within the window; decode steps, whose keys left of it are not handed over."""
    kernel = "tests/right_kernels/plain_sequential.cpp"
    mine, eager = model("mistral", register(kernel)), model("mistral", "eager", torch.float64)
    torch.testing.assert_close(
        mine(IDS[:, :5]).logits.double(), eager(IDS[:, :5]).logits.double(), **TIGHT
    )
    ids = {"input_ids": IDS[:1, :5], "max_new_tokens": 12, "do_sample": False, "pad_token_id": 96}
    assert torch.equal(mine.generate(**ids), eager.generate(**ids))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"attention_mask": PADDING.flip(1)}, "padding on the right"),
        ({"position_ids": (torch.arange(23) % 12)[None]}, "packed sequences"),
        ({"attention_mask": PADDING[:, None, None]}, "must be of booleans or floats"),
        ({"attention_mask": torch.rand(2, 1, 23, 23)}, "adds biases"),
        ({"output_attentions": True}, "for output_attentions"),
        ({"a_kwarg_of_tomorrow": 1}, "for a_kwarg_of_tomorrow"),
        ({"sliding_window": 4}, "sliding window of 4 keys, and gives its attention 23"),
    ],
)
def test_what_a_kernel_cannot_be_told_is_refused(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        model("llama", register("naive"))(IDS, use_cache=False, **asked)


@pytest.mark.parametrize(
    "config",
    [
        transformers.BloomConfig(
            vocab_size=97, hidden_size=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
        ),
        transformers.MptConfig(vocab_size=97, d_model=48, n_layers=2, n_heads=4),
    ],
)
def test_models_with_an_attention_of_their_own_are_refused(config: Any) -> None:
    mine = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=register("naive")
    )
    with pytest.raises(InputError, match="do not hand their attention"):
        mine.eval()(IDS)


def test_a_bias_by_position_is_refused() -> None:
    config = transformers.T5Config(
        vocab_size=97, d_model=48, d_kv=12, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    mine = transformers.AutoModelForSeq2SeqLM.from_config(
        config, attn_implementation=register("naive")
    )
    with pytest.raises(InputError, match="T5Attention asks its attention for position_bias"):
        mine.eval()(IDS, decoder_input_ids=IDS)


def test_gradients_are_refused() -> None:
    with torch.inference_mode(False), pytest.raises(InputError, match="no gradients"):
        model("gpt2", register("simd"))(IDS)


def test_a_file_of_ones_own_gets_its_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.cpp"
    file.write_text((shipped("csrc") / "kernels" / "naive.cpp").read_text())
    assert register(str(file)) == "gpt149_mine"
    eager, mine = (model("qwen2", a) for a in ("eager", "gpt149_mine"))
    torch.testing.assert_close(mine(IDS).logits, eager(IDS).logits, **TIGHT)


def test_a_wrong_kernel_shows() -> None:
    """The negative control."""
    eager, mine = (model("llama", a) for a in ("eager", register("tests/wrong_kernels/zeros.cpp")))
    assert not torch.allclose(mine(IDS).logits, eager(IDS).logits, atol=1e-2)
