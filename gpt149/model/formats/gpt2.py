"""A Hugging Face directory of GPT-2: config.json, safetensors or shards of them, a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError
from ...system.paths import write_whole
from ..config import CONV1D, GPTConfig
from ..tokenizer import Tokenizer
from . import bpe
from .tensors import Arrays, as_arrays, fitted, read_safetensors, read_torch, without_prefix

if TYPE_CHECKING:
    from ..gpt import GPT

PICKLED = "pytorch_model.bin"  # of models from before safetensors: weights alone are taken from it


def read(path: Path) -> tuple[GPTConfig, Arrays, Tokenizer | None]:
    """The model in a directory.

    Raises:
        CheckpointError: missing, damaged, of another architecture, or at odds with its config.
        TokenizerError: its vocabulary cannot be used.
    """
    raw = _read_config(path)
    config = _config(raw, path)
    tensors = without_prefix(_read_tensors(path), "transformer.", path)
    weights = fitted(config, tensors, path, conv1d=True)
    bos, eos = raw.get("bos_token_id"), raw.get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) and eos else eos
    return config, weights, bpe.from_directory(path, _id_or_none(bos), _id_or_none(eos))


def has_weights(path: Path) -> bool:
    """Whether a directory holds weights, or an index that promises them."""
    return bool(_weight_files(path)) or (path / PICKLED).is_file()


def save_gpt2(model: GPT, out: Path, *, bf16: bool = False) -> None:
    """Write config.json and model.safetensors of a Hugging Face GPT-2 directory.

    bf16: the tensors are in bfloat16, half the size, instead of float32.

    Raises:
        CheckpointError: the model is not one that the format can say (no biases).
    """
    c = model.config
    if not c.bias:
        raise CheckpointError("GPT-2's format needs biases, and this model has none.")
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_embd": c.n_embd,
        "n_inner": c.n_inner,
        "n_positions": c.n_ctx,
        "n_ctx": c.n_ctx,
        "vocab_size": c.vocab_size,
        "activation_function": c.activation,
        "layer_norm_epsilon": c.layer_norm_epsilon,
        "scale_attn_weights": c.scale_attn,
        "scale_attn_by_inverse_layer_idx": c.scale_attn_by_layer,
        "tie_word_embeddings": c.tie_word_embeddings,
        "dtype": "float32",  # to compute in, whatever the tensors are stored in
        "bos_token_id": None,
        "eos_token_id": None,
    }
    import torch
    from safetensors.torch import save

    dtype = torch.bfloat16 if bf16 else torch.float32
    tensors = {
        name: (p.t() if CONV1D.fullmatch(name) else p).to(dtype).contiguous()
        for name, p in model.state_dict().items()
        if not (name == "lm_head.weight" and c.tie_word_embeddings)
    }
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "model.safetensors", save(tensors, metadata={"format": "pt"}))
    write_whole(out / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def _read_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise CheckpointError(f"{path} is not a model directory: it has no config.json.") from e
    except (OSError, ValueError) as e:
        raise CheckpointError(f"cannot read {file}: {e}.") from e
    if not isinstance(raw, dict) or raw.get("model_type") != "gpt2":
        kind = raw.get("model_type") if isinstance(raw, dict) else type(raw).__name__
        raise CheckpointError(
            f"{path} holds a model of type '{kind}'; gpt149 runs GPT-2's architecture only."
        )
    return raw


def _config(raw: dict[str, Any], path: Path) -> GPTConfig:
    if raw.get("add_cross_attention"):
        raise CheckpointError(f"{path} has cross-attention, which gpt149 does not run.")
    try:
        config = GPTConfig(
            n_layer=raw["n_layer"],
            n_head=raw["n_head"],
            n_embd=raw["n_embd"],
            n_ctx=raw["n_positions"] if "n_positions" in raw else raw["n_ctx"],
            vocab_size=raw["vocab_size"],
            n_inner=raw.get("n_inner"),
            activation=raw.get("activation_function", "gelu_new"),
            layer_norm_epsilon=raw.get("layer_norm_epsilon", 1e-5),
            scale_attn=raw.get("scale_attn_weights", True),
            scale_attn_by_layer=raw.get("scale_attn_by_inverse_layer_idx", False),
            tie_word_embeddings=raw.get("tie_word_embeddings", True),
        )
    except KeyError as e:
        raise CheckpointError(f"the config.json in {path} does not say {e}.") from e
    config.check(path)
    return config


def _weight_files(path: Path) -> list[Path]:
    """model.safetensors, or the shards that its index lists."""
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return [p for p in [path / "model.safetensors"] if p.is_file()]
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as e:
        raise CheckpointError(f"{index} is damaged: {e}.") from e
    if any(not isinstance(n, str) or Path(n).name != n or n in ("", "..") for n in names):
        raise CheckpointError(f"{index} names files outside its directory.")
    return [path / name for name in names]


def _read_tensors(path: Path) -> Arrays:
    files = _weight_files(path)
    if not files and (path / PICKLED).is_file():
        return as_arrays(read_torch(path / PICKLED), path)
    if not files:
        raise CheckpointError(f"{path} has a config.json but no model.safetensors.")
    tensors: Arrays = {}
    for file in files:
        tensors.update(read_safetensors(file))
    return tensors


def _id_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None
