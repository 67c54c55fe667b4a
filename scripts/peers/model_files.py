"""The model that every engine runs: its files, and the module that exporters trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpt149.system.paths import cache_dir


def write_model(spec: str) -> Path:
    """Random weights as a Hugging Face directory, written once."""
    from gpt149.model.checkpoint import load
    from gpt149.model.formats.gpt2 import save_gpt2

    folder = cache_dir() / "engines" / spec
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    save_gpt2(load(f"random:{spec}").model, folder)
    (folder / "done").touch()
    return folder


def read_once(folder: Path) -> None:
    """So that a start takes no engine's file from a disk and another's from memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as f:
                while f.read(1 << 24):
                    pass


def torch_step(folder: Path) -> Any:
    """A module (ids, k0, v0, k1, ...) -> (logits, and the keys and values with this step's)."""
    import torch
    from torch import Tensor, nn
    from torch.nn import functional as F

    from gpt149.model.checkpoint import load

    model: Any = load(str(folder)).model
    c = model.config

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
            held = past[0].shape[2]
            total = held + ids.shape[1]
            positions = torch.arange(held, total)
            seen = torch.arange(total)[None, :] <= positions[:, None]
            x = self.model.wte(ids) + self.model.wpe(positions)
            cache: list[Tensor] = []
            for i, block in enumerate(self.model.h):
                q, *new = (
                    t.reshape(1, -1, c.n_head, c.head_dim).transpose(1, 2)
                    for t in block.attn.c_attn(block.ln_1(x)).split(c.n_embd, dim=2)
                )
                k, v = (
                    torch.cat(pair, dim=2)
                    for pair in zip(past[2 * i : 2 * i + 2], new, strict=True)
                )
                cache += [k, v]
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
                x = x + block.attn.c_proj(y.transpose(1, 2).reshape(1, -1, c.n_embd))
                x = x + block.mlp(block.ln_2(x))
            x = self.model.ln_f(x[:, -1:])
            return x @ self.model.wte.weight.T, *cache

    return Step().eval()


def past_names(n_layer: int) -> list[str]:
    return [f"{which}{i}" for i in range(n_layer) for which in "kv"]
