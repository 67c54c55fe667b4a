"""A ckpt.pt gives the logits of nanoGPT, brings its characters, and no pickle is executed."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from modelfiles.bpe import vocabulary, write_bpe
from modelfiles.nanogpt import (
    CHARACTERS,
    MODEL_ARGS,
    Payload,
    nanogpt_tensors,
    save_meta,
    save_nanogpt,
)
from modelfiles.tiny import (
    IDS,
    TINY,
    VOCAB_SIZE,
    Tensors,
    assert_same,
    logits,
    refusal,
    text_refusal,
    without,
)
from torch import Tensor

from gpt149.model.checkpoint import load


def nanogpt_logits(tensors: Tensors, *, scale: float) -> Tensor:
    """The forward pass of nanoGPT in float64, from its tensors alone."""
    t = {name.removeprefix("transformer."): p.double() for name, p in tensors.items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ t[f"{name}.weight"].T + t.get(f"{name}.bias", torch.zeros(1))

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        x = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * t[f"{name}.weight"] + t.get(f"{name}.bias", torch.zeros(1))

    batch, n = IDS.shape
    hidden = torch.ones(n, n, dtype=torch.bool).triu(1)
    x = t["wte.weight"][IDS] + t["wpe.weight"][:n]
    for h in (f"h.{i}" for i in range(TINY.n_layer)):
        qkv = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").chunk(3, dim=-1)
        q, k, v = (a.view(batch, n, TINY.n_head, TINY.head_dim).transpose(1, 2) for a in qkv)
        scores = (scale * q @ k.mT).masked_fill(hidden, float("-inf"))
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, n, TINY.n_embd)
        x = x + linear(y, f"{h}.attn.c_proj")
        inner = linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        gelu = inner * 0.5 * (1 + torch.erf(inner / 2**0.5))
        x = x + linear(gelu, f"{h}.mlp.c_proj")
    return linear(norm(x, "ln_f"), "lm_head")


@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@pytest.mark.parametrize("bias", [True, False])
def test_nanogpt_checkpoints_give_nanogpt_logits(tmp_path: Path, bias: bool, prefix: str) -> None:
    tensors = nanogpt_tensors(bias=bias)
    prefixed = {prefix + name: t for name, t in tensors.items()}
    file = save_nanogpt(tmp_path, prefixed, model_args=MODEL_ARGS | {"bias": bias})
    want = nanogpt_logits(tensors, scale=TINY.head_dim**-0.5)
    for spec in (file, tmp_path):
        checkpoint = load(str(spec))
        assert checkpoint.tokenizer is None
        assert checkpoint.model.config.bias == bias
        assert_same(logits(checkpoint.model), want)


@pytest.mark.parametrize("said", [{"use_cpp": True}, {"testname": "part0"}], ids=str)
def test_cs149gpt_checkpoints_are_not_scaled_and_bring_their_characters(
    tmp_path: Path, said: dict[str, object]
) -> None:
    tensors = nanogpt_tensors(bias=True, masks=True)
    file = save_nanogpt(tmp_path, tensors, model_args=MODEL_ARGS | said)
    save_meta(tmp_path / "meta.pkl", CHARACTERS)
    checkpoint = load(str(file))
    assert_same(logits(checkpoint.model), nanogpt_logits(tensors, scale=1.0))
    assert checkpoint.tokenizer is not None
    assert checkpoint.tokenizer.encode(" !A") == [0, 1, 33]


def test_the_meta_file_that_is_given_comes_before_the_one_beside(tmp_path: Path) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    save_meta(tmp_path / "meta.pkl", CHARACTERS)
    elsewhere = save_meta(tmp_path / "data" / "meta.pkl", CHARACTERS[::-1])
    ids = [
        checkpoint.tokenizer.encode(" ")
        for checkpoint in (load(str(file)), load(str(file), meta=elsewhere))
        if checkpoint.tokenizer
    ]
    assert ids == [[0], [VOCAB_SIZE - 1]]


def test_a_ckpt_finds_bpe_files_beside_it(tmp_path: Path) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    write_bpe(tmp_path, vocabulary("ab", []))
    tokenizer = load(str(file)).tokenizer
    assert tokenizer is not None
    assert tokenizer.encode("ba") == [1, 0]


def test_a_ckpt_that_would_execute_code_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True), config=Payload(folder))
    message = refusal(file)
    assert "it holds posix.mkdir. Nothing in it was executed." in message
    assert not folder.exists()
    torch.load(file, weights_only=False)  # the control: an unsafe load does run it
    assert folder.exists()


def test_a_meta_that_would_execute_code_is_refused_and_not_run(tmp_path: Path) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"itos": Payload(tmp_path / "made")}))
    assert "would execute code" in text_refusal(file)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "is not a torch checkpoint, or is damaged"),
        (lambda data: data[:-1], "is not a torch checkpoint, or is damaged"),
        (lambda data: b"", "is not a torch checkpoint, or is damaged: pickle exhausted"),
        (lambda data: b"hello", "is not a torch checkpoint, or is damaged"),
    ],
    ids=["half", "one byte short", "empty", "text"],
)
def test_a_damaged_ckpt_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    file.write_bytes(damage(file.read_bytes()))
    assert message in refusal(file)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"n_head": 5}, "n_head=5 does not divide n_embd=32"),
        ({"n_layer": 0}, "n_layer is 0, and must be a whole number from 1 to 16777216"),
        ({"n_layer": 3}, "lacks the tensor 'h.2.ln_1.weight'"),
        ({"n_layer": 1}, "holds tensors that its config does not explain (12), such as 'h.1."),
        ({"block_size": 32}, "'wpe.weight' has shape (64, 32), its config asks for (32, 32)"),
    ],
    ids=str,
)
def test_a_ckpt_at_odds_with_its_model_args_is_refused(
    tmp_path: Path, args: dict[str, object], message: str
) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True), model_args=MODEL_ARGS | args)
    assert message in refusal(file)


def test_a_ckpt_without_its_parts_is_refused(tmp_path: Path) -> None:
    tensors = nanogpt_tensors(bias=True)
    incomplete = {name: value for name, value in MODEL_ARGS.items() if name != "n_embd"}
    assert "lack 'n_embd'" in refusal(save_nanogpt(tmp_path, tensors, model_args=incomplete))
    missing = save_nanogpt(tmp_path, without(tensors, "transformer.h.1.ln_2.bias"))
    assert "lacks the tensor 'h.1.ln_2.bias'" in refusal(missing)
    torch.save({"state_dict": tensors}, tmp_path / "ckpt.pt")
    assert "no 'model' and 'model_args'" in refusal(tmp_path / "ckpt.pt")
    torch.save([1, 2], tmp_path / "ckpt.pt")
    assert "no 'model' and 'model_args'" in refusal(tmp_path)
