"""What a model's name means, in whose memory its weights lie, and whether its tokenizer fits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from modelfiles.bpe import vocabulary, write_bpe
from modelfiles.nanogpt import CHARACTERS, nanogpt_tensors, save_meta, save_nanogpt
from modelfiles.tiny import VOCAB_SIZE, logits, random_model, refusal, text_refusal

from gpt149.model.checkpoint import load
from gpt149.model.config import GPTConfig
from gpt149.model.formats.gpt2 import save_gpt2
from gpt149.model.random_weights import ARCHITECTURES

# Names


def test_random_models_are_the_same_every_time_and_of_their_size() -> None:
    first, second = load("random:tiny"), load("random:tiny")
    n_layer, n_head, n_embd, n_ctx, vocab_size = ARCHITECTURES["tiny"]
    assert (first.name, first.tokenizer) == ("random:tiny", None)
    assert first.model.config == GPTConfig(n_layer, n_head, n_embd, n_ctx, vocab_size)
    for (name, p), q in zip(first.model.named_parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q), name
        assert (p.std() > 0.001) == (p.dim() == 2), name
    assert torch.equal(logits(first.model), logits(second.model))


@pytest.mark.parametrize("name", ["random:unknown", "random:", "random:GPT2"])
def test_an_unknown_random_model_is_refused_with_those_known(name: str) -> None:
    message = refusal(name)
    assert f"'{name.removeprefix('random:')}'" in message
    assert all(known in message for known in ARCHITECTURES)


@pytest.mark.parametrize("name", ["nosuchmodel", "a/b/c", "two words"])
def test_a_name_that_is_nothing_is_refused(name: str) -> None:
    message = refusal(name)
    assert f"no model '{name}'" in message
    assert "Give a path, a hub name such as" in message


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "gone/ckpt.pt", "x" * 5000])
def test_a_path_that_is_not_there_is_not_asked_of_the_hub(name: str) -> None:
    assert refusal(name) == f"no such file or directory: {name}."


def test_a_single_weights_file_is_sent_to_its_directory(saved: Path) -> None:
    assert f"give its directory, {saved}" in refusal(saved / "model.safetensors")


# Memory


def mapped(file: Path) -> list[range]:
    """The addresses at which this process has mapped the file."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    bounds = [line.split()[0].split("-") for line in lines if line.endswith(str(file))]
    return [range(int(start, 16), int(end, 16)) for start, end in bounds]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc/self/maps")
@pytest.mark.parametrize("kind", ["directory", "ckpt.pt"])
def test_float32_weights_lie_in_the_mapped_file(tmp_path: Path, kind: str) -> None:
    if kind == "directory":
        save_gpt2(random_model(), tmp_path)
        checkpoint, file = load(str(tmp_path)), tmp_path / "model.safetensors"
    else:
        file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
        checkpoint = load(str(file))
    places = mapped(file)
    for name, p in checkpoint.model.named_parameters():
        assert any(p.data_ptr() in place for place in places), name


def test_tied_embeddings_share_their_memory(saved: Path, tmp_path: Path) -> None:
    nanogpt = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    for spec in (saved, nanogpt, "random:tiny"):
        model = load(str(spec)).model
        assert model.wte.weight.data_ptr() == model.lm_head.weight.data_ptr()


# Tokenizers


def test_a_tokenizer_larger_than_the_model_is_refused(saved: Path, tmp_path: Path) -> None:
    characters = [*CHARACTERS, "é"]
    write_bpe(saved, vocabulary("".join(characters[1:]), [], ["<x>"]))
    numbers = f"the tokenizer has {VOCAB_SIZE + 1} tokens, the model only {VOCAB_SIZE}."
    assert numbers in text_refusal(saved)
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    assert numbers in text_refusal(file, meta=save_meta(tmp_path / "meta.pkl", characters))


def test_a_tokenizer_smaller_than_the_model_is_used(saved: Path) -> None:
    write_bpe(saved, vocabulary("ab", [], ["<|endoftext|>"]))
    tokenizer = load(str(saved)).tokenizer
    assert tokenizer is not None
    assert tokenizer.n_vocab == 3
    assert (tokenizer.bos, tokenizer.eos) == (2, 2)
