"""What `-m` names becomes a model and its tokenizer.

A name under weights/, a Hugging Face GPT-2 directory, a nanoGPT or cs149gpt ckpt.pt, a name on the
Hugging Face hub, or `random:gpt2`. No pickle is executed on the way, and torch is imported only for
what needs it: nanoGPT's files, random weights, and the model in torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError
from ..system.paths import shipped
from . import hub, random_weights
from .config import GPTConfig
from .formats import gpt2, nanogpt
from .formats.tensors import Arrays
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .gpt import GPT

DEFAULT_MODEL = "shakespeare"
WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


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
        return Checkpoint(spec, *random_weights.draw(spec.removeprefix("random:")), None)
    path = _found(spec)
    if path.is_dir():
        ckpt = path / "ckpt.pt"
        if meta is not None and not ckpt.is_file():
            raise CheckpointError(
                f"{spec} is no nanoGPT checkpoint, so it cannot use --meta {meta}."
            )
        if ckpt.is_file() and not (path / "config.json").is_file():
            path = ckpt
    config, weights, tokenizer = gpt2.read(path) if path.is_dir() else nanogpt.read(path, meta)
    if tokenizer is not None and tokenizer.n_vocab > config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.n_vocab} tokens, the model only "
            f"{config.vocab_size}."
        )
    return Checkpoint(spec, config, weights, tokenizer)


def _found(spec: str) -> Path:
    """The file or the directory that holds the model; a hub's is downloaded if need be."""
    if not spec:
        raise CheckpointError("the model's name is empty. Give a path, a name, or random:gpt2.")
    path = Path(os.path.expanduser(spec))
    if not _is_name(spec) and not _exists(path):
        raise CheckpointError(f"no such file or directory: {spec}.")
    if path.is_file() or path.is_dir():
        return path
    ours = shipped("weights") / spec
    return ours if (ours / "config.json").is_file() else hub.snapshot(spec)


def _is_name(spec: str) -> bool:
    """Whether the spec can be a model's name; anything else must be there as a path."""
    path = Path(spec)
    if len(spec) > hub.LONGEST_NAME or path.suffix in WEIGHT_SUFFIXES:
        return False
    return not spec.startswith((".", "/", "~")) and not (len(path.parts) > 1 and _here(path))


def _here(path: Path) -> bool:
    return Path(path.parts[0]).is_dir()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False
