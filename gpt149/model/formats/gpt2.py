"""A Hugging Face directory of GPT-2: config.json, safetensors or shards of them, a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import CheckpointError
from ...system.files import exists, read_json
from ...system.paths import write_whole
from ...system.words import brief
from ..config import CONV1D
from . import bpe, config_json
from .tensors import (
    Arrays,
    Contents,
    as_arrays,
    by_bare_names,
    fitted,
    read_safetensors,
    read_torch,
)

if TYPE_CHECKING:
    from ..gpt import GPT

PICKLED = "pytorch_model.bin"  # of models from before safetensors: weights alone are taken from it
# Where weights are looked for, in transformers' order; an index lists files.
SOURCES = (
    "model.safetensors",
    "model.safetensors.index.json",
    PICKLED,
    f"{PICKLED}.index.json",
)


def read(path: Path) -> Contents:
    """The model in a directory.

    Raises:
        CheckpointError: missing, damaged, of another architecture, or at odds with its config.
    """
    config, bos, eos = config_json.read(path)
    weights = fitted(config, _read_tensors(path), path, conv1d=True)
    return Contents(config, weights, lambda: bpe.from_directory(path, bos, eos), eos)


def has_weights(path: Path) -> bool:
    """Whether a directory holds weights: a file of them, or all that an index lists."""
    files = _weight_files(path)
    return bool(files) and all(file.is_file() for file in files)


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


def _weight_files(path: Path) -> list[Path]:
    """The files of the first source that is there; none if there is no source."""
    for source in (path / name for name in SOURCES):
        if exists(source, CheckpointError):
            return _shards(source) if source.suffix == ".json" else [source]
    return []


def _read_tensors(path: Path) -> Arrays:
    """All tensors of a directory, by their bare names."""
    files = _weight_files(path)
    if not files:
        raise CheckpointError(f"{path} has a config.json but no model.safetensors.")
    tensors: Arrays = {}
    for file in files:
        found = (
            read_safetensors(file)
            if file.suffix == ".safetensors"
            else as_arrays(read_torch(file), file)
        )
        if twice := found.keys() & tensors.keys():
            raise CheckpointError(f"{path}: two shards hold the tensor {brief(min(twice))}.")
        tensors |= found
    return by_bare_names(tensors, path)


def _shards(index: Path) -> list[Path]:
    """The files that an index lists, all beside it and of its kind."""
    places = read_json(index, CheckpointError).get("weight_map")
    if not isinstance(places, dict) or any(not isinstance(n, str) for n in places.values()):
        raise CheckpointError(f"{index} is damaged: it has no 'weight_map' of names of files.")
    names = sorted(set(places.values()))
    if not names:
        raise CheckpointError(f"{index} lists no files.")
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    for name in names:
        if Path(name).name != name or "\0" in name:
            raise CheckpointError(f"{index} names files outside its directory.")
        if Path(name).suffix != suffix:
            raise CheckpointError(f"{index} lists {brief(name)}, which is no {suffix} file.")
    return [index.parent / name for name in names]
