"""A Hugging Face directory gives the logits of transformers, and a bad one a sentence."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from modelfiles.bpe import vocabulary, write_bpe
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
    spread_,
    with_prefix,
    without,
    without_prefix,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt149.errors import CheckpointError
from gpt149.kernels.dispatch import Attention
from gpt149.model.checkpoint import load
from gpt149.model.formats.gpt2 import save_gpt2


def huggingface_model(**choices: Any) -> Any:
    """A random GPT2LMHeadModel of transformers."""
    config = transformers.GPT2Config(
        n_layer=2,
        n_head=4,
        n_embd=32,
        n_positions=N_CTX,
        vocab_size=VOCAB_SIZE,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="eager",
        **choices,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    spread_(model)
    return model


def huggingface_logits(model: Any) -> Tensor:
    """In float64, but where transformers insists on float32."""
    wide = torch.float32 if model.config.reorder_and_upcast_attn else torch.float64
    with torch.inference_mode():
        result: Tensor = model.to(wide)(IDS).logits
    return result


def edit_config(path: Path, **changes: object) -> None:
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def edit_tensors(path: Path, change: Callable[[Tensors], Tensors | None]) -> None:
    """Rewrite model.safetensors; `change` gives new tensors or alters those it gets."""
    file = path / "model.safetensors"
    tensors = {name: t.clone() for name, t in safetensors.torch.load_file(file).items()}
    changed = change(tensors)
    file.write_bytes(safetensors.torch.save(tensors if changed is None else changed))


# Forms

CHOICES: dict[str, dict[str, Any]] = {
    "plain": {},
    "exact gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "gelu_fast": {"activation_function": "gelu_fast"},
    "gelu_pytorch_tanh": {"activation_function": "gelu_pytorch_tanh"},
    "unscaled": {"scale_attn_weights": False},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "n_inner": {"n_inner": 48},
    "epsilon": {"layer_norm_epsilon": 0.1},
    "untied": {"tie_word_embeddings": False},
    "upcast": {"reorder_and_upcast_attn": True},
    "all": {
        "activation_function": "relu",
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
        "n_inner": 17,
        "layer_norm_epsilon": 1e-3,
        "tie_word_embeddings": False,
    },
}


@pytest.mark.parametrize("choice", CHOICES)
def test_logits_are_those_of_transformers(tmp_path: Path, choice: str) -> None:
    theirs = huggingface_model(**CHOICES[choice])
    theirs.save_pretrained(tmp_path)
    assert_same(logits(load(str(tmp_path)).model), huggingface_logits(theirs))


@pytest.mark.parametrize("kernel", ["flash", "torch"])
def test_logits_do_not_depend_on_the_kernel(tmp_path: Path, kernel: str) -> None:
    theirs = huggingface_model()
    theirs.save_pretrained(tmp_path)
    assert_same(logits(load(str(tmp_path)).model, kernel), huggingface_logits(theirs))


@pytest.mark.parametrize(
    "choice",
    [
        {"activation_function": "gelu"},
        {"activation_function": "relu"},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"layer_norm_epsilon": 0.1},
        {"n_head": 2},
    ],
    ids=str,
)
def test_each_choice_in_the_config_changes_the_logits(
    saved: Path, choice: dict[str, object]
) -> None:
    before = logits(load(str(saved)).model)
    edit_config(saved, **choice)
    # Exact and tanh gelu differ least: still by more than assert_same lets pass.
    assert (logits(load(str(saved)).model) - before).abs().max() > 1e-3


def test_settings_that_the_config_leaves_out_are_those_of_gpt2(saved: Path) -> None:
    before = logits(load(str(saved)).model)
    sizes = ("model_type", "n_layer", "n_head", "n_embd", "n_ctx", "vocab_size")
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({name: config[name] for name in sizes}))
    assert torch.equal(logits(load(str(saved)).model), before)


def with_masks(tensors: Tensors) -> Tensors:
    mask = torch.ones(1, 1, N_CTX, N_CTX, dtype=torch.bool).tril()
    masks = {f"transformer.h.{i}.attn.bias": mask.clone() for i in range(2)}
    values = {f"transformer.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    return tensors | masks | values


def with_head(tensors: Tensors) -> Tensors:
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"].clone()}


@pytest.mark.parametrize("form", [without_prefix, with_prefix, with_masks, with_head])
def test_every_form_of_the_tensor_names_gives_the_same_logits(
    tmp_path: Path, form: Callable[[Tensors], Tensors]
) -> None:
    theirs = huggingface_model()
    theirs.save_pretrained(tmp_path)
    before = safetensors.torch.load_file(tmp_path / "model.safetensors").keys()
    edit_tensors(tmp_path, form)
    after = safetensors.torch.load_file(tmp_path / "model.safetensors").keys()
    assert (before == after) == (form is with_prefix)
    assert_same(logits(load(str(tmp_path)).model), huggingface_logits(theirs))


def test_shards_are_read_together(tmp_path: Path) -> None:
    theirs = huggingface_model(tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    assert not (tmp_path / "model.safetensors").exists()
    assert_same(logits(load(str(tmp_path)).model), huggingface_logits(theirs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_widened_to_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    theirs = huggingface_model().to(dtype)
    theirs.save_pretrained(tmp_path)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {dtype}
    ours = load(str(tmp_path)).model
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert_same(logits(ours), huggingface_logits(theirs))


def test_a_loaded_model_is_ready_to_run(saved: Path) -> None:
    checkpoint = load(str(saved))
    assert (checkpoint.name, checkpoint.tokenizer) == (str(saved), None)
    assert checkpoint.model.config == TINY
    assert not checkpoint.model.training
    assert not any(p.requires_grad for p in checkpoint.model.parameters())


def test_a_stored_head_is_used_though_the_config_ties_it(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    name = next(n for n in tensors if n.endswith("wte.weight"))
    save_file({**tensors, "lm_head.weight": tensors[name].flip(0)}, saved / "model.safetensors")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(saved).eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        ours = load(str(saved)).model(ids, Attention("reference"))
        torch.testing.assert_close(ours, theirs(ids).logits, rtol=1e-4, atol=1e-5)


def test_half_precision_keeps_the_head_tied(saved: Path) -> None:
    tensors = {n: t.half() for n, t in load_file(saved / "model.safetensors").items()}
    save_file(tensors, saved / "model.safetensors")
    model = load(str(saved)).model
    assert model.lm_head.weight.data_ptr() == model.wte.weight.data_ptr()


# save_gpt2


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"activation": "gelu"},
        {"n_inner": 48},
        {"scale_attn": False, "scale_attn_by_layer": True},
        {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-3},
    ],
    ids=str,
)
def test_what_was_saved_loads_exactly_here_and_in_transformers(
    tmp_path: Path, choice: dict[str, Any]
) -> None:
    model = random_model(**choice)
    save_gpt2(model, tmp_path / "new" / "folder")
    again = load(str(tmp_path / "new" / "folder")).model
    assert again.config == model.config
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, p in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], p), name
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "new" / "folder")
    assert_same(logits(again), huggingface_logits(theirs.eval()))


def test_saving_leaves_two_files_and_replaces_older_ones(tmp_path: Path) -> None:
    for n_layer in (3, 1):
        save_gpt2(random_model(n_layer=n_layer), tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
        assert load(str(tmp_path)).model.config.n_layer == n_layer


def test_a_model_without_biases_cannot_be_saved_as_gpt2(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="needs biases"):
        save_gpt2(random_model(bias=False), tmp_path)
    assert not list(tmp_path.iterdir())


# Bad directories


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "holds a model of type 'llama'; gpt149 runs GPT-2's"),
        ({"model_type": None}, "holds a model of type None"),
        ({"add_cross_attention": True}, "has cross-attention"),
        ({"n_head": 5}, "n_head=5 does not divide n_embd=32"),
        ({"n_head": 0}, "n_head is 0, and must be a whole number from 1 to 16777216"),
        ({"n_layer": -2}, "n_layer is -2, and must be a whole number from 1 to 16777216"),
        ({"n_embd": 32.5}, "n_embd is 32.5, and must be a whole number from 1 to 16777216"),
        ({"vocab_size": "65"}, "vocab_size is '65', and must be a whole number from 1 to 16777216"),
        ({"n_inner": 0}, "n_inner is 0, and must be a whole number from 1 to 16777216"),
        (
            {"n_positions": None, "n_ctx": None},
            "n_ctx is None, and must be a whole number from 1 to 16777216",
        ),
        ({"activation_function": "swish"}, "activation 'swish' is not one of gelu, gelu_new"),
        ({"n_layer": 3}, "lacks the tensor 'h.2.ln_1.weight' that its config asks for"),
        ({"n_layer": 1}, "holds tensors that its config does not explain (12), such as 'h.1."),
        (
            {"n_positions": 63, "n_ctx": 63},
            "'wpe.weight' has shape (64, 32), its config asks for (63, 32)",
        ),
        (
            {"vocab_size": 66},
            "'wte.weight' has shape (65, 32), its config asks for (66, 32)",
        ),
        (
            {"n_inner": 100},
            "'h.0.mlp.c_fc.weight' has shape (32, 128), its config asks for (32, 100)",
        ),
        ({"tie_word_embeddings": False}, "lacks the tensor 'lm_head.weight'"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_run_is_refused(
    saved: Path, changes: dict[str, object], message: str
) -> None:
    edit_config(saved, **changes)
    refused = refusal(saved)
    assert message in refused
    assert str(saved) in refused


@pytest.mark.parametrize("name", ["n_layer", "n_head", "n_embd", "vocab_size"])
def test_a_config_without_a_size_is_refused(saved: Path, name: str) -> None:
    config = json.loads((saved / "config.json").read_text())
    del config[name]
    (saved / "config.json").write_text(json.dumps(config))
    assert f"does not say '{name}'" in refusal(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff", "is not UTF-8 (byte 0xff at offset 0)"),
        (b"[]", "wrong type: a list, not a dict"),
        (b"null", "wrong type: a NoneType, not a dict"),
    ],
)
def test_a_damaged_config_is_refused(saved: Path, content: bytes, message: str) -> None:
    (saved / "config.json").write_bytes(content)
    assert message in refusal(saved)


def swap_header(data: bytes) -> bytes:
    n = struct.unpack("<Q", data[:8])[0]
    return data[:8] + data[8 : 8 + n][::-1] + data[8 + n :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:5],
        lambda data: b"",
        lambda data: b"\xff" * 8 + data[8:],
        swap_header,
    ],
    ids=["half", "one byte short", "five bytes", "empty", "length", "header"],
)
def test_damaged_safetensors_are_refused_with_their_size(
    saved: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = saved / "model.safetensors"
    data = damage(file.read_bytes())
    file.write_bytes(data)
    message = refusal(saved)
    assert f"{file} is damaged or incomplete ({len(data)} bytes)" in message
    assert message.endswith("Fetch it again.")


def drop(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: without(tensors, name)


def put(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.zeros(shape)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("h.1.ln_2.bias"), "lacks the tensor 'h.1.ln_2.bias' that its config asks for"),
        (drop("wte.weight"), "lacks the tensor 'wte.weight'"),
        (
            put("h.2.ln_1.bias", 32),
            "holds tensors that its config does not explain (1), such as 'h.2",
        ),
        (put("extra", 1), "holds tensors that its config does not explain (1), such as 'extra'"),
        (
            put("h.0.attn.c_attn.weight", 96, 32),
            "'h.0.attn.c_attn.weight' has shape (96, 32), its config asks for (32, 96)",
        ),
        (put("ln_f.weight", 31), "'ln_f.weight' has shape (31,), its config asks for (32,)"),
    ],
)
def test_tensors_at_odds_with_the_config_are_refused(
    saved: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    edit_tensors(saved, change)
    assert message in refusal(saved)


def test_tensors_with_and_without_prefix_are_refused(saved: Path) -> None:
    tensors = {
        n.removeprefix("transformer."): t for n, t in load_file(saved / "model.safetensors").items()
    }
    tensors["transformer.ln_f.bias"] = tensors["ln_f.bias"].clone()
    save_file(tensors, saved / "model.safetensors")
    assert "twice, as 'ln_f.bias' and as 'transformer.ln_f.bias'" in refusal(saved)


def test_a_directory_without_its_files_is_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert "has a config.json but no model.safetensors" in refusal(saved)
    (tmp_path / "empty").mkdir()
    assert "it has no config.json" in refusal(tmp_path / "empty")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "is damaged"),
        ('{"weight_map": []}', "is damaged"),
        ('{"weight_map": {"a": 1}}', "is damaged"),
        ('{"weight_map": {"a": "a.bin"}}', "lists 'a.bin', which is no .safetensors file"),
        ('{"weight_map": {"wte.weight": "../m.safetensors"}}', "files outside its directory"),
        ('{"weight_map": {"wte.weight": "/m.safetensors"}}', "files outside its directory"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors: No such file"),
        ('{"weight_map": {}}', "lists no files"),
    ],
)
def test_a_bad_index_of_shards_is_refused(saved: Path, index: str, message: str) -> None:
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(index)
    assert message in refusal(saved)


# The end of text


@pytest.mark.parametrize(("said", "eos"), [(1, 1), ([1, 0], 1), ([], 2), (None, 2), ("a", 2)])
def test_the_end_of_text_is_the_configs_or_the_tokenizers(
    saved: Path, said: object, eos: int
) -> None:
    write_bpe(saved, vocabulary("ab", [], ["<|endoftext|>"]))
    edit_config(saved, eos_token_id=said, bos_token_id=0)
    tokenizer = load(str(saved)).tokenizer
    assert tokenizer is not None
    assert (tokenizer.bos, tokenizer.eos) == (0, eos)
