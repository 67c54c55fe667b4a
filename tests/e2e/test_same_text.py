"""The shipped model writes the same through every kernel (scripts/same_text.py: the long run)."""

from __future__ import annotations

import pytest
import same_text
import torch
from cs149.mistakes import MODULE

from gpt149.kernels.registry import BUILTINS
from gpt149.model.checkpoint import Checkpoint, load


@pytest.fixture(scope="module")
def shakespeare() -> Checkpoint:
    return load("shakespeare")


@pytest.fixture(scope="module")
def want(shakespeare: Checkpoint) -> dict[str, list[int]]:
    return {p: same_text.greedy(shakespeare, p, 100, "reference", True) for p in same_text.PROMPTS}


@pytest.mark.parametrize("kernel", [name for name in BUILTINS if name != "reference"])
def test_twenty_prompts_with_the_cache(
    shakespeare: Checkpoint, want: dict[str, list[int]], kernel: str
) -> None:
    for prompt, tokens in want.items():
        assert same_text.greedy(shakespeare, prompt, 100, kernel, True) == tokens, prompt


@pytest.mark.parametrize("kernel", BUILTINS)
def test_some_prompts_recomputed(
    shakespeare: Checkpoint, want: dict[str, list[int]], kernel: str
) -> None:
    for prompt in same_text.PROMPTS[:3]:
        tokens = want[prompt][:80]
        assert same_text.greedy(shakespeare, prompt, 80, kernel, False) == tokens, prompt


@pytest.mark.parametrize("part", ["part1", "part2", "part3", "part4"])
def test_a_module_of_cs149gpt(
    shakespeare: Checkpoint, want: dict[str, list[int]], part: str
) -> None:
    for prompt in same_text.PROMPTS[:3]:
        tokens = want[prompt][:100]
        assert same_text.greedy(shakespeare, prompt, 100, f"{MODULE}:{part}", True) == tokens


def test_zeros_change_the_text(shakespeare: Checkpoint, want: dict[str, list[int]]) -> None:
    prompt = same_text.PROMPTS[0]
    zeros = same_text.greedy(shakespeare, prompt, 20, "tests/wrong_kernels/zeros.cpp", True)
    assert zeros != want[prompt][:20]


def test_the_whole_context_is_used(shakespeare: Checkpoint) -> None:
    """Kernels agree at the far end of n_ctx, where positions are last and rows longest."""
    from gpt149.kernels.dispatch import Attention

    n_ctx = shakespeare.model.config.n_ctx
    ids = torch.randint(0, 256, (1, n_ctx), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want, got = (shakespeare.model(ids, Attention(k)) for k in ("reference", "flash"))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def test_transformers_reads_it_and_writes_the_same(
    shakespeare: Checkpoint, want: dict[str, list[int]]
) -> None:
    transformers = pytest.importorskip("transformers")
    from gpt149.system.paths import shipped

    path = str(shipped("weights") / "shakespeare")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    assert shakespeare.tokenizer is not None
    for prompt in same_text.PROMPTS[:4]:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        seen = torch.ones_like(ids)
        assert ids[0].tolist() == shakespeare.tokenizer.encode(prompt)
        out = theirs.generate(ids, attention_mask=seen, max_new_tokens=100, do_sample=False)
        assert out[0, ids.shape[1] :].tolist() == want[prompt][:100]
        assert tokenizer.decode(want[prompt]) == shakespeare.tokenizer.decode(want[prompt])
