"""What `-m` names becomes a model and its tokenizer.

A name under weights/, a Hugging Face GPT-2 directory, a nanoGPT or cs149gpt ckpt.pt, a name on the
Hugging Face hub, or `random:gpt2`. No pickle is executed on the way, and torch is imported only for
what needs it: nanoGPT's files, random weights, and the model in torch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CheckpointError, TokenizerError
from ..system.files import exists
from ..system.paths import shipped
from . import hub, random_weights
from .config import GPTConfig
from .formats import gpt2, nanogpt
from .formats.tensors import Arrays
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .gpt import GPT

DEFAULT_MODEL = "shakespeare"
LARGEST_PADDING = 1024  # ids without text by which a vocabulary is rounded up
WEIGHT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights, and its tokenizer if its files hold one.

    weights: float32 by `GPTConfig.shapes`; where the files hold that, mapped from them, not read.
    tokenizer: None also where it cannot be used, which token ids do not need; `unusable` says why.
    ends: what its config says of the ids that end a text; a tokenizer knows them, and its own.
    notes: what a user should know of the files, a sentence each.
    """

    name: str
    config: GPTConfig
    weights: Arrays
    tokenizer: Tokenizer | None
    unusable: str = ""
    ends: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def need_tokenizer(self) -> Tokenizer:
        """The tokenizer, for a text.

        Raises:
            TokenizerError: there is none, or it cannot be used.
        """
        if self.tokenizer is None:
            raise TokenizerError(
                self.unusable
                or f"the model '{self.name}' has no tokenizer, so it cannot read text. Give token "
                "ids with `generate --prompt-ids`, or --prompt-tokens N; for a nanoGPT checkpoint, "
                "--meta FILE, or put vocab.json and merges.txt beside it."
            )
        return self.tokenizer

    def reader(self, *, behind_ids: bool, ignore_eos: bool = False) -> Tokenizer | None:
        """The tokenizer for what is generated behind a text, or behind token ids.

        Behind ids the model may choose any, also one without a text, as in its padding; and a text
        ends where the config says, though no tokenizer can be used.
        """
        tokenizer = self.tokenizer
        if tokenizer is None and self.ends and behind_ids:
            tokenizer = Tokenizer(None, {}, {}).ending(self.ends)
        if tokenizer is None:
            return None
        if ignore_eos:
            tokenizer = tokenizer.ending(())
        return tokenizer.widened(self.config.vocab_size) if behind_ids else tokenizer

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
        if ckpt.is_file() and (meta is not None or not (path / "config.json").is_file()):
            path = ckpt
    files = gpt2.read(path) if path.is_dir() else nanogpt.read(path, meta)
    tokenizer, unusable = None, ""
    try:
        tokenizer = _fitting(files.read_tokenizer(), files.config, path)
    except TokenizerError as e:
        unusable = str(e)
    notes = tokenizer.notes if tokenizer else ()
    return Checkpoint(spec, files.config, files.weights, tokenizer, unusable, files.ends, notes)


def _fitting(tokenizer: Tokenizer | None, config: GPTConfig, path: Path) -> Tokenizer | None:
    """The tokenizer with every id at which a text ends; a note if it is another model's."""
    if tokenizer is None:
        return None
    n, vocab_size = tokenizer.n_vocab, config.vocab_size
    if n > vocab_size:
        raise TokenizerError(f"{path}: the tokenizer has {n} tokens, the model only {vocab_size}.")
    if vocab_size - n > (0 if tokenizer.whole_characters else LARGEST_PADDING):
        note = (
            f"{path}: the tokenizer has {n} tokens, the model {vocab_size}: it may be another "
            "model's, and text would mean nothing then."
        )
        tokenizer = replace(tokenizer, notes=(*tokenizer.notes, note))
    return tokenizer.widened(1 + max((i for i in tokenizer.ends if i < vocab_size), default=-1))


def _found(spec: str) -> Path:
    """The file or the directory that holds the model; a hub's is downloaded if need be."""
    if not spec:
        raise CheckpointError("the model's name is empty. Give a path, a name, or random:gpt2.")
    path = Path(os.path.expanduser(spec))
    there = exists(path, CheckpointError)
    if not there and not _is_name(spec):
        raise CheckpointError(f"no such file or directory: {spec}.")
    if there:
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
