"""What `-m` names becomes a model and its tokenizer; and the way back to files.

A name under weights/, a Hugging Face GPT-2 directory, a nanoGPT or cs149gpt ckpt.pt, a name on the
Hugging Face hub, or `random:gpt2`. No pickle is executed on the way, and torch is imported only for
what needs it: nanoGPT's files, random weights, and the model in torch.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError, MissingDependency
from ..system.paths import shipped, write_whole
from . import tokenizer as tokenizers
from .config import ACTIVATIONS, CONV1D, GPTConfig
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .gpt import GPT

DEFAULT_MODEL = "shakespeare"

# n_layer, n_head, n_embd, n_ctx, vocab_size
RANDOM_MODELS = {
    "tiny": (4, 4, 128, 1024, 65),  # cs149gpt's size
    "distilgpt2": (6, 12, 768, 1024, 50257),
    "gpt2": (12, 12, 768, 1024, 50257),
    "gpt2-medium": (24, 16, 1024, 1024, 50257),
    "gpt2-large": (36, 20, 1280, 1024, 50257),
    "gpt2-xl": (48, 25, 1600, 1024, 50257),
}
RANDOM_SEED = 149

LARGEST_SIZE = 2**24  # of any dimension: keeps sizes of damaged files from overflowing

# Causal masks that some files carry as buffers.
MASK_BUFFER = re.compile(r"h\.\d+\.attn\.(masked_)?bias")

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+|(distil)?gpt2(-medium|-large|-xl)?")
LONGEST_NAME = 96  # of a hub repository
WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
PICKLED = "pytorch_model.bin"  # of models from before safetensors: weights alone are taken from it
HUB_FILES = ["*.json", "*.safetensors", "merges.txt", "vocab.bpe"]


Arrays = dict[str, NDArray[np.float32]]
# Of safetensors' types, those that become float32; bfloat16 is the upper half of one.
STORED = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": np.uint16}


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights, and its tokenizer if its files hold one.

    weights: float32 by `GPTConfig.shapes`; where the files hold that, mapped from them, not read.
    """

    name: str
    config: GPTConfig
    weights: Arrays
    tokenizer: Tokenizer | None

    @cached_property
    def model(self) -> GPT:
        """The model in torch, on the same memory."""
        import torch

        from .gpt import GPT

        with torch.device("meta"):
            model = GPT(self.config)
        state = {name: torch.from_numpy(array) for name, array in self.weights.items()}
        model.load_state_dict(state, assign=True)
        if self.weights["lm_head.weight"] is self.weights["wte.weight"]:
            model.lm_head.weight = model.wte.weight
        return model.eval().requires_grad_(False)


def load(spec: str | Path = DEFAULT_MODEL, *, meta: Path | None = None) -> Checkpoint:
    """The model that `spec` names (see the top of this file).

    Args:
        spec: a name under weights/, a directory, a ckpt.pt, a hub name, or random:NAME.
        meta: nanoGPT's meta.pkl with the character vocabulary, if it is not beside the ckpt.pt.

    Raises:
        CheckpointError: missing, damaged, of another architecture, or at odds with its config.
        TokenizerError: its vocabulary cannot be used.
        MissingDependency: a hub name without huggingface-hub.
    """
    spec = str(spec)
    if spec.startswith("random:"):
        return _random(spec)
    if not spec:
        raise CheckpointError("the model's name is empty. Give a path, a name, or random:gpt2.")
    path = Path(os.path.expanduser(spec))
    if not _is_name(spec) and not _exists(path):
        raise CheckpointError(f"no such file or directory: {spec}.")
    if path.is_file():
        return _from_nanogpt(path, meta, spec)
    if not path.is_dir() and (shipped("weights") / spec / "config.json").is_file():
        path = shipped("weights") / spec
    if not path.is_dir():
        path = _from_hub(spec)
    if meta is not None and not (path / "ckpt.pt").is_file():
        raise CheckpointError(f"{spec} is no nanoGPT checkpoint, so it cannot use --meta {meta}.")
    if (path / "ckpt.pt").is_file() and not (path / "config.json").is_file():
        return _from_nanogpt(path / "ckpt.pt", meta, spec)
    return _from_gpt2_directory(path, spec)


def _is_name(spec: str) -> bool:
    """Whether the spec can be a model's name; anything else must be there as a path."""
    path = Path(spec)
    if len(spec) > LONGEST_NAME or path.suffix in WEIGHT_SUFFIXES:
        return False
    return not spec.startswith((".", "/", "~")) and not (len(path.parts) > 1 and _here(path))


def _here(path: Path) -> bool:
    return Path(path.parts[0]).is_dir()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


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


def _random(spec: str) -> Checkpoint:
    name = spec.removeprefix("random:")
    if name not in RANDOM_MODELS:
        raise CheckpointError(
            f"unknown architecture '{name}' for random weights. Known: {', '.join(RANDOM_MODELS)}."
        )
    import torch

    from .gpt import GPT

    n_layer, n_head, n_embd, n_ctx, vocab_size = RANDOM_MODELS[name]
    config = GPTConfig(n_layer, n_head, n_embd, n_ctx, vocab_size)
    with torch.device("meta"):
        model = GPT(config)
    model = model.to_empty(device="cpu")
    if config.tie_word_embeddings:
        model.lm_head.weight = model.wte.weight
    with torch.no_grad():
        model.init_weights(torch.Generator().manual_seed(RANDOM_SEED))
    weights = {name: p.detach().numpy() for name, p in model.state_dict().items()}
    weights["lm_head.weight"] = weights["wte.weight"]
    return Checkpoint(spec, config, weights, None)


def _from_gpt2_directory(path: Path, spec: str) -> Checkpoint:
    raw = _read_config(path)
    config = _gpt2_config(raw, path)
    tensors = _without_prefix(_read_tensors(path), "transformer.", path)
    weights = _checked(config, tensors, path, conv1d=True)
    bos, eos = raw.get("bos_token_id"), raw.get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) and eos else eos
    tokenizer = tokenizers.from_directory(path, _id_or_none(bos), _id_or_none(eos))
    return Checkpoint(spec, config, weights, _fitting(tokenizer, config, path))


def _from_nanogpt(path: Path, meta: Path | None, spec: str) -> Checkpoint:
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is one file of a model: give its directory, {path.parent}.")
    saved = _torch_load(path)
    saved = saved if isinstance(saved, dict) else {}
    weights, a = saved.get("model"), saved.get("model_args")
    if not isinstance(weights, dict) or not isinstance(a, dict):
        raise CheckpointError(f"{path} is not a nanoGPT checkpoint: no 'model' and 'model_args'.")
    tensors = _without_prefix(_as_arrays(weights, path), "_orig_mod.", path)
    tensors = _without_prefix(tensors, "transformer.", path)
    try:
        config = GPTConfig(
            n_layer=a["n_layer"],
            n_head=a["n_head"],
            n_embd=a["n_embd"],
            n_ctx=a["block_size"],
            vocab_size=a["vocab_size"],
            activation="gelu",
            bias="ln_f.bias" in tensors,
            # cs149gpt's variant of nanoGPT says these two, and does not scale its scores.
            scale_attn=not {"use_cpp", "testname"} & set(a),
        )
    except KeyError as e:
        raise CheckpointError(f"the model_args of {path} lack {e}.") from e
    _check_config(config, path)
    weights = _checked(config, tensors, path, conv1d=False)
    beside = path.parent / "meta.pkl"
    if meta is None and beside.is_file():
        meta = beside
    if meta is not None:
        tokenizer: Tokenizer | None = tokenizers.from_meta_pickle(meta)
    else:
        tokenizer = tokenizers.from_directory(path.parent)
    return Checkpoint(spec, config, weights, _fitting(tokenizer, config, path))


def _from_hub(name: str) -> Path:
    """The local snapshot of a hub repository: the cached one, else downloaded."""
    known = sorted(p.parent.name for p in shipped("weights").glob("*/config.json"))
    if not HUB_NAME.fullmatch(name):
        raise CheckpointError(
            f"no model '{name}': it is no directory, no ckpt.pt and no name that ships "
            f"({', '.join(known) or 'none'}). Give a path, a hub name such as "
            "openai-community/gpt2, or random:gpt2."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as e:
        raise MissingDependency(
            f"no model '{name}' here (shipped: {', '.join(known)}), and reading the Hugging Face "
            "hub needs huggingface-hub: pip install 'gpt149[hub]'."
        ) from e
    repository = name if "/" in name else f"openai-community/{name}"
    try:
        path = Path(snapshot_download(repository, local_files_only=True))
        if (path / "config.json").is_file() and _has_weights(path):
            return path
    except Exception:  # not in the cache; every way of saying so ends in the download
        pass
    try:
        path = Path(snapshot_download(repository, allow_patterns=HUB_FILES))
        if (path / "config.json").is_file() and not _has_weights(path):
            path = Path(snapshot_download(repository, allow_patterns=[*HUB_FILES, PICKLED]))
        return path
    except Exception as e:  # the client's and the network's many kinds
        reason = str(e).strip().split("\n")[0]
        raise CheckpointError(
            f"cannot get '{repository}' from the Hugging Face hub "
            f"({reason.rstrip('.') or type(e).__name__}), and it is not in the local cache. "
            f"Shipped models: {', '.join(known)}."
        ) from e


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


def _gpt2_config(raw: dict[str, Any], path: Path) -> GPTConfig:
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
    _check_config(config, path)
    return config


def _check_config(c: GPTConfig, path: Path) -> None:
    sizes = {
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_embd": c.n_embd,
        "n_ctx": c.n_ctx,
        "vocab_size": c.vocab_size,
        "n_inner": 1 if c.n_inner is None else c.n_inner,
    }
    for name, value in sizes.items():
        if type(value) is not int or not 1 <= value <= LARGEST_SIZE:
            raise CheckpointError(
                f"{path}: {name} is {value!r}, and must be a whole number from 1 to {LARGEST_SIZE}."
            )
    for name in ("scale_attn", "scale_attn_by_layer", "tie_word_embeddings", "bias"):
        if type(getattr(c, name)) is not bool:
            raise CheckpointError(f"{path}: {name} is {getattr(c, name)!r}, not true or false.")
    epsilon = c.layer_norm_epsilon
    if not isinstance(epsilon, float | int) or not 0 <= epsilon < 1:
        raise CheckpointError(
            f"{path}: layer_norm_epsilon is {epsilon!r}, and must be a number from 0 to 1."
        )
    if c.n_embd % c.n_head:
        raise CheckpointError(f"{path}: n_head={c.n_head} does not divide n_embd={c.n_embd}.")
    if not isinstance(c.activation, str) or c.activation not in ACTIVATIONS:
        raise CheckpointError(
            f"{path}: activation '{c.activation}' is not one of {', '.join(ACTIVATIONS)}."
        )


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


def _has_weights(path: Path) -> bool:
    return bool(_weight_files(path)) or (path / PICKLED).is_file()


def _read_tensors(path: Path) -> Arrays:
    """Every tensor of the directory; float32 ones are mapped from its files, not read."""
    files = _weight_files(path)
    if not files and (path / PICKLED).is_file():
        return _as_arrays(_torch_load(path / PICKLED), path)
    if not files:
        raise CheckpointError(f"{path} has a config.json but no model.safetensors.")
    tensors: Arrays = {}
    for file in files:
        try:
            tensors.update(_mapped(file))
        except (SafetensorError, OSError, ValueError) as e:
            size = file.stat().st_size if file.is_file() else 0
            raise CheckpointError(
                f"{file} is damaged or incomplete ({size} bytes): {e}. Fetch it again."
            ) from e
    return tensors


def _mapped(file: Path) -> Arrays:
    """The tensors of a safetensors file: 8 bytes with the header's length, the header, the data."""
    with safe_open(file, framework="numpy"):  # checks the header against the file
        pass
    memory = np.memmap(file, np.uint8, "c")  # copy on write: torch warns of what is read-only
    length = int.from_bytes(memory[:8].tobytes(), "little")
    header = json.loads(memory[8 : 8 + length].tobytes())
    arrays: Arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or MASK_BUFFER.fullmatch(name.removeprefix("transformer.")):
            continue
        if entry["dtype"] not in STORED:
            raise CheckpointError(f"{file}: '{name}' is {entry['dtype']}, not a float.")
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        stored = memory[first:last].view(STORED[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = stored.astype(np.float32, copy=False)
    return arrays


def _as_arrays(weights: Mapping[Any, Any], path: Path) -> Arrays:
    """Torch's tensors as arrays, float32 ones on the same memory."""
    from torch import Tensor

    arrays: Arrays = {}
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} holds more than named tensors as its model.")
        if MASK_BUFFER.search(name):
            continue
        if not tensor.is_floating_point():
            raise CheckpointError(f"{path}: '{name}' is {tensor.dtype}, not a float.")
        arrays[name] = tensor.detach().float().numpy()
    return arrays


def _without_prefix(tensors: Arrays, prefix: str, path: Path) -> Arrays:
    bare = {name.removeprefix(prefix): t for name, t in tensors.items()}
    if len(bare) != len(tensors):
        raise CheckpointError(f"{path} holds tensors twice, with and without '{prefix}'.")
    return bare


def _torch_load(path: Path) -> Any:
    import torch

    try:
        # Only torch's own zip files can be mapped; older ones are read.
        mapped = zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as e:
        named = re.search(r"GLOBAL (\S+)", str(e))
        raise CheckpointError(
            f"{path} is no torch checkpoint of tensors and plain values: it holds "
            f"{named[1] if named else 'other things'}. Nothing in it was executed."
        ) from e
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as e:
        reason = str(e).strip().split("\n")[0] or "it ends too early."
        raise CheckpointError(f"{path} is not a torch checkpoint, or is damaged: {reason}") from e


def _checked(config: GPTConfig, tensors: Arrays, path: Path, *, conv1d: bool) -> Arrays:
    """The tensors that the config asks for, matrices (out, in), no copies."""
    if config.tie_word_embeddings and "wte.weight" in tensors:
        tensors = {"lm_head.weight": tensors["wte.weight"], **tensors}
    weights: Arrays = {}
    for name, shape in config.shapes().items():
        if name not in tensors:
            raise CheckpointError(f"{path} lacks the tensor '{name}' that its config asks for.")
        tensor = tensors[name]
        transposed = conv1d and CONV1D.fullmatch(name)
        stored = shape[::-1] if transposed else shape
        if tensor.shape != stored:
            raise CheckpointError(
                f"{path}: the tensor '{name}' has shape {tensor.shape}, its config asks for "
                f"{stored}."
            )
        weights[name] = tensor.T if transposed else tensor
    extra = [n for n in tensors if n not in weights]
    if extra:
        raise CheckpointError(
            f"{path} holds tensors that its config does not explain ({len(extra)}), such as "
            f"'{extra[0]}'."
        )
    return weights


def _id_or_none(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _fitting(tokenizer: Tokenizer | None, config: GPTConfig, path: Path) -> Tokenizer | None:
    if tokenizer is not None and tokenizer.n_vocab > config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.n_vocab} tokens, the model only "
            f"{config.vocab_size}."
        )
    return tokenizer
