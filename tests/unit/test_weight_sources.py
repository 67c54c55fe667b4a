"""Where files say one thing twice, transformers' answer counts, or none; every form is read."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from modelfiles.bpe import vocabulary, write_bpe
from modelfiles.corpus import hashes_for_ever
from modelfiles.nanogpt import (
    CHARACTERS,
    MODEL_ARGS,
    nanogpt_tensors,
    save_meta,
    save_nanogpt,
)
from modelfiles.tiny import (
    IDS,
    N_CTX,
    TINY,
    VOCAB_SIZE,
    Tensors,
    assert_same,
    logits,
    random_model,
    refusal,
    text_refusal,
    without,
)

from gpt149.errors import CheckpointError
from gpt149.model.checkpoint import load
from gpt149.model.formats.gpt2 import save_gpt2


def edit(path: Path, **changes: object) -> None:
    file = path / "config.json"
    said = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({name: value for name, value in said.items() if value != ""}))


def theirs(path: Path) -> torch.Tensor:
    model = transformers.GPT2LMHeadModel.from_pretrained(path).eval()
    with torch.inference_mode():
        result: torch.Tensor = model(IDS).logits
    return result


# One file, or many


def another(path: Path, name: str, *, scale: float = 2.0) -> Tensors:
    """Tensors that would give other logits."""
    tensors = safetensors.torch.load_file(path / "model.safetensors")
    other = {n: t * scale if "c_proj" in n else t for n, t in tensors.items()}
    safetensors.torch.save_file(other, path / name, {"format": "pt"})
    return other


def index(path: Path, name: str, places: dict[str, str]) -> None:
    content = {"metadata": {"total_size": 1}, "weight_map": places}
    (path / f"{name}.index.json").write_text(json.dumps(content))


def test_the_single_file_counts_where_an_index_lies_beside_it(saved: Path) -> None:
    before = logits(load(saved).model)
    shard = "model-00001-of-00001.safetensors"
    index(saved, "model.safetensors", dict.fromkeys(another(saved, shard), shard))
    assert torch.equal(logits(load(saved).model), before)
    assert_same(before, theirs(saved))
    (saved / "model.safetensors").unlink()
    assert (logits(load(saved).model) - before).abs().max() > 0.1
    assert_same(logits(load(saved).model), theirs(saved))


def test_pickled_shards_are_read_together(saved: Path) -> None:
    before = logits(load(saved).model)
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    places = {n: f"pytorch_model-{i % 3 + 1:05}-of-00003.bin" for i, n in enumerate(tensors)}
    for shard in set(places.values()):
        torch.save({n: t for n, t in tensors.items() if places[n] == shard}, saved / shard)
    index(saved, "pytorch_model.bin", places)
    assert torch.equal(logits(load(saved).model), before)
    torch.save({"wte.weight": tensors["wte.weight"]}, saved / places["wpe.weight"])
    torch.save({"wte.weight": tensors["wte.weight"]}, saved / places["wte.weight"])
    assert "two shards hold the tensor 'wte.weight'" in refusal(saved)


@pytest.mark.parametrize("content", [[1, 2], "text", 7, None, {"a": 1}, {1: torch.ones(2)}])
def test_a_pickle_of_something_else_is_refused(saved: Path, content: object) -> None:
    (saved / "model.safetensors").unlink()
    torch.save(content, saved / "pytorch_model.bin")
    assert "holds no named tensors" in (message := refusal(saved)) or "more than named" in message


# Names


PREFIXES = ["", "module.", "_orig_mod.", "transformer.", "module._orig_mod.", "_orig_mod.module."]


@pytest.mark.parametrize("prefix", [*PREFIXES, *(p + "transformer." for p in PREFIXES)])
@pytest.mark.parametrize("kind", ["directory", "ckpt.pt"])
def test_any_mix_of_prefixes_is_read(saved: Path, prefix: str, kind: str) -> None:
    if kind == "directory":
        file = saved / "model.safetensors"
        tensors = safetensors.torch.load_file(file)
        want = logits(load(saved).model)
        named = {prefix + n: t for n, t in tensors.items()}
        named[prefix + "h.0.attn.bias"] = torch.ones(1, 1, 4, 4)
        safetensors.torch.save_file(named, file)
        assert torch.equal(logits(load(saved).model), want)
        return
    tensors = {n.removeprefix("transformer."): t for n, t in nanogpt_tensors(bias=True).items()}
    want = logits(load(save_nanogpt(saved, tensors)).model)
    file = save_nanogpt(saved, {prefix + n: t for n, t in tensors.items()})
    assert torch.equal(logits(load(file).model), want)


@pytest.mark.parametrize("kind", ["directory", "ckpt.pt"])
def test_a_tied_head_may_be_stored_alone(saved: Path, kind: str) -> None:
    path = saved
    if kind == "directory":
        file = saved / "model.safetensors"
        want = logits(load(saved).model)
        tensors = safetensors.torch.load_file(file)
        tensors["lm_head.weight"] = tensors.pop("wte.weight")
        safetensors.torch.save_file(tensors, file)
    else:
        named = nanogpt_tensors(bias=True)
        want = logits(load(save_nanogpt(saved, named)).model)
        path = save_nanogpt(saved, without(named, "transformer.wte.weight"))
    model = load(path).model
    assert torch.equal(logits(model), want)
    assert model.lm_head.weight.data_ptr() == model.wte.weight.data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {n.replace("ln_f", "final"): x for n, x in t.items()},
            "lacks the tensor 'ln_f.weight' that its config asks for; the nearest that is there "
            "is 'final.weight'.",
        ),
        (
            lambda t: {n.replace("h.", "layers."): x for n, x in t.items()},
            "'h.0.ln_1.weight' that its config asks for; the nearest that is there is "
            "'layers.0.ln_1.weight'.",
        ),
    ],
)
def test_the_name_nearest_to_a_missing_tensor_is_told(
    saved: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    file = saved / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(file)), file)
    assert message in refusal(saved)


# The config


def test_the_aliases_of_gpt2config_are_read(saved: Path) -> None:
    want = logits(load(saved).model)
    aliases = {
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
    }
    said = json.loads((saved / "config.json").read_text())
    edit(saved, n_ctx="", **dict.fromkeys(aliases.values(), ""))
    edit(saved, **{alias: said[name] for alias, name in aliases.items()})
    assert load(saved).config == TINY
    assert torch.equal(logits(load(saved).model), want)
    assert_same(want, theirs(saved))
    edit(saved, n_layer=2)
    assert load(saved).config == TINY


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_embd", "hidden_size"),
        ("n_positions", "max_position_embeddings"),
        ("n_positions", "n_ctx"),
    ],
)
def test_aliases_that_disagree_are_refused(saved: Path, name: str, alias: str) -> None:
    edit(saved, n_ctx="")
    value = json.loads((saved / "config.json").read_text())[name]
    edit(saved, **{alias: 2 * value})
    message = refusal(saved)
    assert f"contradicts itself: {name} is {value}, {alias} is {2 * value}" in message


def test_every_end_of_text_counts(saved: Path) -> None:
    write_bpe(saved, vocabulary("ab", [], ["<|endoftext|>"]))
    edit(saved, eos_token_id=[5, 2], bos_token_id=1)
    (saved / "generation_config.json").write_text('{"eos_token_id": [7, 5000], "bos_token_id": 0}')
    tokenizer = load(saved).need_tokenizer()
    assert (tokenizer.bos, tokenizer.eos) == (1, 5)
    assert tokenizer.ends == {5, 2, 7, 5000}
    assert tokenizer.n_vocab == 8  # up to the last that the model can choose
    assert tokenizer.decode([0, 7]) == "a"
    (saved / "generation_config.json").write_text("[")
    assert "generation_config.json is not JSON" in refusal(saved)


# Tokenizers of another model, or that cannot be used


def test_characters_of_another_model_are_a_note_and_cut_nothing_behind_ids(
    tmp_path: Path,
) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    assert load(file, meta=save_meta(tmp_path / "right.pkl", CHARACTERS)).notes == ()
    loaded = load(file, meta=save_meta(tmp_path / "few.pkl", CHARACTERS[:9]))
    assert [n for n in loaded.notes if f"has 9 tokens, the model {VOCAB_SIZE}" in n]
    tokenizer = loaded.need_tokenizer()
    assert tokenizer.n_vocab == 9
    assert tokenizer.widened(VOCAB_SIZE).n_vocab == VOCAB_SIZE


@pytest.mark.parametrize("kind", ["damaged", "too many", "foreign"])
def test_a_tokenizer_that_cannot_be_used_stops_texts_alone(saved: Path, kind: str) -> None:
    many = vocabulary("".join(map(chr, range(33, 33 + VOCAB_SIZE + 1))), [])
    if kind == "too many":
        write_bpe(saved, many)
    else:
        content = "{" if kind == "damaged" else json.dumps({"model": {"type": "WordPiece"}})
        (saved / "tokenizer.json").write_text(content)
    loaded = load(saved)
    assert loaded.tokenizer is None
    assert str(saved) in loaded.unusable
    assert logits(loaded.model).shape[-1] == VOCAB_SIZE
    assert text_refusal(saved) == loaded.unusable


# build-nanogpt


@dataclasses.dataclass
class GPTConfig:
    """As build-nanogpt's train_gpt2.py has it, which pickles one into its checkpoint."""

    block_size: int = N_CTX
    vocab_size: int = VOCAB_SIZE
    n_layer: int = TINY.n_layer
    n_head: int = TINY.n_head
    n_embd: int = TINY.n_embd


def test_build_nanogpts_checkpoint_is_refused_with_a_line_that_rewrites_it(tmp_path: Path) -> None:
    tensors = nanogpt_tensors(bias=True)
    file = tmp_path / "it's model_19072.pt"
    torch.save({"model": tensors, "config": GPTConfig(), "step": 9}, file)
    with pytest.raises(CheckpointError) as e:
        load(file)
    sentence, command = str(e.value).split("\n$ ")
    assert "holds an object of the class" in sentence
    python, *words = shlex.split(command)
    assert python == "python"
    subprocess.run([sys.executable, *words], cwd=tmp_path, check=True, timeout=120)
    rewritten = load(tmp_path / "ckpt.pt")
    assert rewritten.config.activation == "gelu_pytorch_tanh"  # nanoGPT's own is the exact one
    args = MODEL_ARGS | {"activation": "gelu_pytorch_tanh"}
    (tmp_path / "same").mkdir()
    same = load(save_nanogpt(tmp_path / "same", tensors, model_args=args))
    assert torch.equal(logits(rewritten.model), logits(same.model))


# No work before belief

MANY = 2**24
SOURCE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from gpt149.errors import Gpt149Error
from gpt149.model.checkpoint import load
from gpt149.model.formats.gpt2 import save_gpt2
try:
    load(sys.argv[1])
except Gpt149Error as e:
    print(e)
"""


def refused_in_little_memory(path: Path) -> str:
    """What a process that may have 3 GB says."""
    done = subprocess.run(
        [sys.executable, "-c", SOURCE, path],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("name", ["n_layer", "n_embd", "n_inner", "vocab_size", "n_positions"])
def test_a_size_is_believed_only_as_far_as_the_file_goes(saved: Path, name: str) -> None:
    changes = {name: MANY} | ({"n_ctx": MANY} if name == "n_positions" else {})
    edit(saved, **changes)
    message = refused_in_little_memory(saved)
    assert "that its config asks for" in message or "its config asks for" in message


def test_a_tensor_that_pretends_to_be_large_is_refused(tmp_path: Path) -> None:
    tensors = nanogpt_tensors(bias=True)
    wide = torch.zeros(1, dtype=torch.float16).expand(MANY, 32)
    tensors["transformer.wte.weight"] = tensors["lm_head.weight"] = wide
    file = save_nanogpt(tmp_path, tensors, model_args=MODEL_ARGS | {"vocab_size": MANY})
    assert "'transformer.wte.weight' is not stored whole" in refused_in_little_memory(file)


@pytest.mark.parametrize("place", ["config.json", "model.safetensors", "vocab.json", "ckpt.pt"])
def test_a_pipe_in_a_files_place_is_not_waited_for(saved: Path, place: str) -> None:
    path = saved / place if place == "ckpt.pt" else saved
    (saved / place).unlink(missing_ok=True)
    os.mkfifo(saved / place)
    if place == "vocab.json":
        (saved / "merges.txt").write_text("")
        assert "vocab.json: it is not a regular file" in text_refusal(path)
    else:
        assert f"{place}: it is not a regular file" in refusal(path)


def test_a_pickle_that_would_hash_for_ever_is_refused(tmp_path: Path) -> None:
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    (tmp_path / "meta.pkl").write_bytes(hashes_for_ever())
    assert "tuples in tuples, more than 16 deep" in text_refusal(file)
    file.write_bytes(hashes_for_ever())
    assert "tuples in tuples, more than 16 deep" in refusal(file)


def test_values_of_another_type_are_told_in_brief(tmp_path: Path) -> None:
    args = MODEL_ARGS | {"n_layer": torch.ones(50, 50)}
    message = refusal(save_nanogpt(tmp_path, nanogpt_tensors(bias=True), model_args=args))
    assert "n_layer is tensor([[1., 1., 1.," in message
    assert len(message) < 300


def test_the_format_before_zip_files_is_read(tmp_path: Path) -> None:
    tensors = nanogpt_tensors(bias=True)
    saved = {"model": tensors, "model_args": MODEL_ARGS}
    torch.save(saved, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    want = logits(load(save_nanogpt(tmp_path, tensors)).model)
    assert torch.equal(logits(load(tmp_path / "old.pt").model), want)


def test_a_config_that_leaves_out_the_end_of_text_means_gpt2s(tmp_path: Path) -> None:
    save_gpt2(random_model(vocab_size=50257), tmp_path)
    edit(tmp_path, eos_token_id="", bos_token_id="")
    assert load(tmp_path).ends == (50256,)
    edit(tmp_path, eos_token_id=None)
    assert load(tmp_path).ends == ()
