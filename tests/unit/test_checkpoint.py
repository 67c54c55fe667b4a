"""A model's files give the logits that their own library gives, and bad files one sentence."""

from __future__ import annotations

import fnmatch
import json
import os
import pickle
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from gpt149.errors import CheckpointError, MissingDependency, TokenizerError
from gpt149.kernels.dispatch import Attention
from gpt149.model.checkpoint import RANDOM_MODELS, Checkpoint, load, save_gpt2
from gpt149.model.config import GPTConfig
from gpt149.model.gpt import GPT

Tensors = dict[str, Tensor]

N_CTX, VOCAB_SIZE = 64, 65
TINY = GPTConfig(n_layer=2, n_head=4, n_embd=32, n_ctx=N_CTX, vocab_size=VOCAB_SIZE)
IDS = torch.randint(0, VOCAB_SIZE, (2, 48), generator=torch.Generator().manual_seed(1))


def logits(model: GPT, kernel: str = "reference") -> Tensor:
    with torch.inference_mode():
        result: Tensor = model(IDS, Attention(kernel))
    return result


def assert_same(got: Tensor, want: Tensor) -> None:
    """Equal to float32 rounding; logits here are of size 1 to 10."""
    assert want.abs().max() > 1
    torch.testing.assert_close(got.double(), want.double(), rtol=1e-4, atol=1e-4)


def spread_(model: torch.nn.Module) -> None:
    """Weights so large that a change of any part shows in the logits."""
    generator = torch.Generator().manual_seed(0)
    for name, p in model.named_parameters():
        centre = 1.0 if "ln_" in name and name.endswith("weight") else 0.0
        torch.nn.init.normal_(p, centre, 0.3, generator=generator)


def random_model(**choices: Any) -> GPT:
    model = GPT(replace(TINY, **choices))
    spread_(model)
    return model.eval().requires_grad_(False)


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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A GPT-2 directory without a tokenizer."""
    save_gpt2(random_model(), tmp_path / "model")
    return tmp_path / "model"


def refusal(spec: object, kind: type[Exception] = CheckpointError, **settings: Any) -> str:
    """The message with which it is refused: a sentence, not the lines of a library."""
    with pytest.raises(kind) as e:
        load(str(spec), **settings)
    message = str(e.value)
    assert "\n" not in message
    return message


# Hugging Face directories

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


def without_prefix(tensors: Tensors) -> Tensors:
    return {name.removeprefix("transformer."): t for name, t in tensors.items()}


def with_prefix(tensors: Tensors) -> Tensors:
    return {f"transformer.{name}": t for name, t in without_prefix(tensors).items()}


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


# nanoGPT's ckpt.pt


def nanogpt_tensors(*, bias: bool, masks: bool = False) -> Tensors:
    """The state_dict of nanoGPT's model.py: nn.Linear weights, the head tied to wte."""
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int, centre: float = 0.0) -> Tensor:
        return centre + 0.3 * torch.randn(*shape, generator=generator)

    n = TINY.n_embd
    tensors = {"wte.weight": random(VOCAB_SIZE, n), "wpe.weight": random(N_CTX, n)}
    linears = {"attn.c_attn": (3 * n, n), "attn.c_proj": (n, n)}
    linears |= {"mlp.c_fc": (4 * n, n), "mlp.c_proj": (n, 4 * n)}
    for h in (f"h.{i}." for i in range(TINY.n_layer)):
        for name, shape in linears.items():
            tensors[f"{h}{name}.weight"] = random(*shape)
            tensors[f"{h}{name}.bias"] = random(shape[0])
    for norm in ("h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2", "ln_f"):
        tensors[f"{norm}.weight"] = random(n, centre=1.0)
        tensors[f"{norm}.bias"] = random(n)
    if not bias:
        tensors = {name: t for name, t in tensors.items() if not name.endswith(".bias")}
    if masks:
        mask = torch.ones(1, 1, N_CTX, N_CTX).tril()
        tensors |= {f"h.{i}.attn.bias": mask for i in range(TINY.n_layer)}
    tensors = with_prefix(tensors)
    return tensors | {"lm_head.weight": tensors["transformer.wte.weight"]}


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


MODEL_ARGS = {
    "n_layer": TINY.n_layer,
    "n_head": TINY.n_head,
    "n_embd": TINY.n_embd,
    "block_size": N_CTX,
    "bias": True,
    "vocab_size": VOCAB_SIZE,
    "dropout": 0.2,
}


def save_nanogpt(folder: Path, tensors: object, **changes: Any) -> Path:
    """ckpt.pt as nanoGPT's train.py writes it."""
    weights = [torch.nn.Parameter(torch.ones(2, 2))]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    weights[0].sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    saved = {
        "model": tensors,
        "optimizer": optimizer.state_dict(),
        "model_args": MODEL_ARGS,
        "iter_num": 250,
        "best_val_loss": torch.tensor(1.88),
        "config": {"out_dir": "out", "dataset": "shakespeare_char", "lr": 1e-3, "compile": True},
    }
    torch.save(saved | changes, folder / "ckpt.pt")
    return folder / "ckpt.pt"


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


CHARACTERS = [chr(i) for i in range(32, 32 + VOCAB_SIZE)]


def save_meta(file: Path, characters: list[str]) -> Path:
    itos = dict(enumerate(characters))
    stoi = {c: i for i, c in itos.items()}
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps({"vocab_size": len(itos), "itos": itos, "stoi": stoi}))
    return file


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
    write_bpe(tmp_path, ["a", "b"])
    tokenizer = load(str(file)).tokenizer
    assert tokenizer is not None
    assert tokenizer.encode("ba") == [1, 0]


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


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
    assert "would execute code" in refusal(file, TokenizerError)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "is not a torch checkpoint, or is damaged"),
        (lambda data: data[:-1], "is not a torch checkpoint, or is damaged"),
        (lambda data: b"", "is not a torch checkpoint, or is damaged: it ends too early"),
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


def without(tensors: Tensors, name: str) -> Tensors:
    return {n: t for n, t in tensors.items() if n != name}


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


# Bad directories


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "holds a model of type 'llama'; gpt149 runs GPT-2's"),
        ({"model_type": None}, "holds a model of type 'None'"),
        ({"add_cross_attention": True}, "has cross-attention"),
        ({"n_head": 5}, "n_head=5 does not divide n_embd=32"),
        ({"n_head": 0}, "n_head is 0, and must be a whole number from 1 to 16777216"),
        ({"n_layer": -2}, "n_layer is -2, and must be a whole number from 1 to 16777216"),
        ({"n_embd": 32.5}, "n_embd is 32.5, and must be a whole number from 1 to 16777216"),
        ({"vocab_size": "65"}, "vocab_size is '65', and must be a whole number from 1 to 16777216"),
        ({"n_inner": 0}, "n_inner is 0, and must be a whole number from 1 to 16777216"),
        ({"n_positions": None}, "n_ctx is None, and must be a whole number from 1 to 16777216"),
        ({"activation_function": "swish"}, "activation 'swish' is not one of gelu, gelu_new"),
        ({"n_layer": 3}, "lacks the tensor 'h.2.ln_1.weight' that its config asks for"),
        ({"n_layer": 1}, "holds tensors that its config does not explain (12), such as 'h.1."),
        (
            {"n_positions": 63},
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


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b"null"])
def test_a_damaged_config_is_refused(saved: Path, content: bytes) -> None:
    (saved / "config.json").write_bytes(content)
    message = refusal(saved)
    assert "cannot read" in message or "holds a model of type" in message


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


def test_a_directory_without_its_files_is_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert "has a config.json but no model.safetensors" in refusal(saved)
    (tmp_path / "empty").mkdir()
    assert "it has no config.json" in refusal(tmp_path / "empty")


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is damaged"),
        ("{}", "is damaged"),
        ('{"weight_map": []}', "is damaged"),
        ('{"weight_map": {"wte.weight": "../m.safetensors"}}', "files outside its directory"),
        ('{"weight_map": {"wte.weight": "/m.safetensors"}}', "files outside its directory"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors is damaged or incomplete"),
        ('{"weight_map": {}}', "no model.safetensors"),
    ],
)
def test_a_bad_index_of_shards_is_refused(saved: Path, index: str, message: str) -> None:
    (saved / "model.safetensors.index.json").write_text(index)
    assert message in refusal(saved)


# Tokenizers of models


def write_bpe(path: Path, tokens: list[str]) -> None:
    (path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (path / "merges.txt").write_text("#version: 0.2\n")


def test_a_tokenizer_larger_than_the_model_is_refused(saved: Path, tmp_path: Path) -> None:
    characters = [*CHARACTERS, "é"]
    write_bpe(saved, [*CHARACTERS[1:], "é", "<x>"])
    numbers = f"the tokenizer has {VOCAB_SIZE + 1} tokens, the model only {VOCAB_SIZE}."
    assert numbers in refusal(saved)
    file = save_nanogpt(tmp_path, nanogpt_tensors(bias=True))
    assert numbers in refusal(file, meta=save_meta(tmp_path / "meta.pkl", characters))


def test_a_tokenizer_smaller_than_the_model_is_used(saved: Path) -> None:
    write_bpe(saved, ["a", "b", "<|endoftext|>"])
    tokenizer = load(str(saved)).tokenizer
    assert tokenizer is not None
    assert tokenizer.n_vocab == 3
    assert (tokenizer.bos, tokenizer.eos) == (2, 2)


@pytest.mark.parametrize(("said", "eos"), [(1, 1), ([1, 0], 1), ([], 2), (None, 2), ("a", 2)])
def test_the_end_of_text_is_the_configs_or_the_tokenizers(
    saved: Path, said: object, eos: int
) -> None:
    write_bpe(saved, ["a", "b", "<|endoftext|>"])
    edit_config(saved, eos_token_id=said, bos_token_id=0)
    tokenizer = load(str(saved)).tokenizer
    assert tokenizer is not None
    assert (tokenizer.bos, tokenizer.eos) == (0, eos)


# Names


def test_random_models_are_the_same_every_time_and_of_their_size() -> None:
    first, second = load("random:tiny"), load("random:tiny")
    n_layer, n_head, n_embd, n_ctx, vocab_size = RANDOM_MODELS["tiny"]
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
    assert all(known in message for known in RANDOM_MODELS)


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


def test_a_stored_head_is_used_though_the_config_ties_it(saved: Path) -> None:
    tensors = load_file(saved / "model.safetensors")
    name = next(n for n in tensors if n.endswith("wte.weight"))
    save_file({**tensors, "lm_head.weight": tensors[name].flip(0)}, saved / "model.safetensors")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(saved).eval()
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode():
        ours = load(str(saved)).model(ids, Attention("reference"))
        torch.testing.assert_close(ours, theirs(ids).logits, rtol=1e-4, atol=1e-5)


def test_tensors_with_and_without_prefix_are_refused(saved: Path) -> None:
    tensors = {
        n.removeprefix("transformer."): t for n, t in load_file(saved / "model.safetensors").items()
    }
    tensors["transformer.ln_f.bias"] = tensors["ln_f.bias"].clone()
    save_file(tensors, saved / "model.safetensors")
    assert "twice, with and without 'transformer.'" in refusal(saved)


def test_half_precision_keeps_the_head_tied(saved: Path) -> None:
    tensors = {n: t.half() for n, t in load_file(saved / "model.safetensors").items()}
    save_file(tensors, saved / "model.safetensors")
    model = load(str(saved)).model
    assert model.lm_head.weight.data_ptr() == model.wte.weight.data_ptr()


# The hub


class Hub:
    """Stands in for huggingface_hub.snapshot_download."""

    def __init__(self, *, cached: Path | None = None, online: Path | None = None) -> None:
        self.cached, self.online = cached, online
        self.calls: list[tuple[str, bool]] = []
        self.patterns: list[str] = []

    def __call__(
        self,
        repository: str,
        *,
        local_files_only: bool = False,
        allow_patterns: list[str] | None = None,
    ) -> str:
        self.calls.append((repository, local_files_only))
        self.patterns += allow_patterns or []
        found = self.cached if local_files_only else self.online
        if found is None:
            raise OSError("Network is unreachable\nand more lines")
        return str(found)


def load_from(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> Checkpoint:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    return load(name)


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("distilgpt2", "openai-community/distilgpt2"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("someone/some-model_1.5", "someone/some-model_1.5"),
    ],
)
def test_a_cached_hub_model_is_read_without_the_network(
    saved: Path, monkeypatch: pytest.MonkeyPatch, name: str, repository: str
) -> None:
    hub = Hub(cached=saved)
    checkpoint = load_from(hub, monkeypatch, name)
    assert hub.calls == [(repository, True)]
    assert checkpoint.name == name
    assert torch.equal(logits(checkpoint.model), logits(load(str(saved)).model))


def test_a_hub_name_without_network_or_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", Hub())
    message = refusal("gpt2")
    assert "cannot get 'openai-community/gpt2' from the Hugging Face hub" in message
    assert "Network is unreachable" in message
    assert "not in the local cache" in message


@pytest.mark.parametrize("cached", ["nothing", "no config", "no weights"])
def test_what_the_cache_lacks_is_downloaded(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: str
) -> None:
    partial = tmp_path / "partial"
    save_gpt2(random_model(), partial)
    (partial / ("config.json" if cached == "no config" else "model.safetensors")).unlink()
    hub = Hub(cached=None if cached == "nothing" else partial, online=saved)
    load_from(hub, monkeypatch, "someone/model")
    assert hub.calls == [("someone/model", True), ("someone/model", False)]


def test_a_download_asks_for_what_is_read_and_for_no_pickle(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(online=saved)
    load_from(hub, monkeypatch, "gpt2")

    def asked(file: str) -> bool:
        return any(fnmatch.fnmatch(file, pattern) for pattern in hub.patterns)

    read = ["config.json", "model.safetensors", "model.safetensors.index.json", "vocab.json"]
    read += ["merges.txt", "tokenizer.json", "encoder.json", "vocab.bpe"]
    assert all(asked(file) for file in read)
    assert not any(asked(file) for file in ("pytorch_model.bin", "ckpt.pt", "x.pkl", "tf_model.h5"))


def test_a_hub_name_without_the_hub_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'gpt149[hub]'" in refusal("gpt2", MissingDependency)
