"""nanoGPT's ckpt.pt, and that of its descendant cs149gpt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import CheckpointError
from ...system.files import exists
from ..config import GPTConfig
from ..tokenizer import Tokenizer
from . import bpe
from .characters import from_meta_pickle
from .tensors import Arrays, as_arrays, by_bare_names, fitted, read_torch


def read(path: Path, meta: Path | None) -> tuple[GPTConfig, Arrays, Callable[[], Tokenizer | None]]:
    """The model in a ckpt.pt, and what reads its tokenizer, which raises TokenizerError.

    meta: the meta.pkl with its characters; None: the one beside it, if there is one.

    Raises:
        CheckpointError: missing, damaged, something else, or at odds with its model_args.
    """
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} is one file of a model: give its directory, {path.parent}.")
    saved = read_torch(path)
    saved = saved if isinstance(saved, dict) else {}
    weights, a = saved.get("model"), saved.get("model_args")
    if not isinstance(weights, dict) or not isinstance(a, dict):
        raise CheckpointError(f"{path} is not a nanoGPT checkpoint: no 'model' and 'model_args'.")
    tensors = by_bare_names(as_arrays(weights, path), path)
    try:
        config = GPTConfig(
            n_layer=a["n_layer"],
            n_head=a["n_head"],
            n_embd=a["n_embd"],
            n_ctx=a["block_size"],
            vocab_size=a["vocab_size"],
            activation=a.get("activation", "gelu"),
            bias="ln_f.bias" in tensors,
            # cs149gpt's variant of nanoGPT says these two, and does not scale its scores.
            scale_attn=not {"use_cpp", "testname"} & set(a),
        )
    except KeyError as e:
        raise CheckpointError(f"the model_args of {path} lack {e}.") from e
    config.check(path)
    weights = fitted(config, tensors, path, conv1d=False)
    beside = path.parent / "meta.pkl"
    if meta is None and exists(beside, CheckpointError):
        meta = beside
    if meta is None:
        return config, weights, lambda: bpe.from_directory(path.parent)
    return config, weights, lambda: from_meta_pickle(meta)
