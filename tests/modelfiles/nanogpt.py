"""ckpt.pt and meta.pkl as nanoGPT writes them, or as somebody who means harm does."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .tiny import N_CTX, TINY, VOCAB_SIZE, Tensors, with_prefix


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


CHARACTERS = [chr(i) for i in range(32, 32 + VOCAB_SIZE)]


def save_meta(file: Path, characters: list[str]) -> Path:
    itos = dict(enumerate(characters))
    stoi = {c: i for i, c in itos.items()}
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps({"vocab_size": len(itos), "itos": itos, "stoi": stoi}))
    return file


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)
