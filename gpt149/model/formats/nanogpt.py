"""nanoGPT's ckpt.pt, and that of its descendant cs149gpt."""

from __future__ import annotations

from pathlib import Path

from ...errors import CheckpointError, TokenizerError
from ...system.files import exists
from ..config import GPTConfig
from ..tokenizer import Tokenizer
from . import bpe
from .characters import from_meta_pickle
from .tensors import Contents, as_arrays, by_bare_names, fitted, read_torch


def read(path: Path, meta: Path | None) -> Contents:
    """The model in a ckpt.pt.

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
    return Contents(config, weights, lambda: _tokenizer(path.parent, meta))


def _tokenizer(folder: Path, meta: Path | None) -> Tokenizer | None:
    """Of the meta.pkl that is given, else of what lies in the folder."""
    if meta is not None:
        return from_meta_pickle(meta)
    beside = folder / "meta.pkl"
    characters, tokens = exists(beside, TokenizerError), bpe.has_files(folder)
    if characters and tokens:
        raise TokenizerError(
            f"{folder} has a meta.pkl and the files of a BPE tokenizer, and only one of them can "
            f"be the model's. Choose the characters with --meta {beside}, or move meta.pkl away."
        )
    return from_meta_pickle(beside) if characters else bpe.from_directory(folder)
