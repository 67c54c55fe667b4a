"""A minimal GPT inference app with pluggable attention kernels.

    import gpt149

    checkpoint = gpt149.load("shakespeare")
    for piece in gpt149.generate(checkpoint, "O Romeo", kernel="simd", n=100):
        print(piece.text, end="", flush=True)

    out = gpt149.attention(q, k, v, causal=True, kernel="./mine.cpp")

Importing the package imports none of torch: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import generate as generate
    from .checkpoint import Checkpoint as Checkpoint
    from .checkpoint import load as load
    from .dispatch import Attention as Attention
    from .dispatch import attention as attention
    from .engine import Generation as Generation
    from .engine import Options as Options
    from .errors import Gpt149Error as Gpt149Error
    from .kernels import BUILTINS as BUILTINS
    from .kernels import resolve as resolve
    from .sampling import Sampling as Sampling

_HOME = {
    "Attention": "dispatch",
    "BUILTINS": "kernels",
    "Checkpoint": "checkpoint",
    "Generation": "engine",
    "Gpt149Error": "errors",
    "Options": "engine",
    "Sampling": "sampling",
    "attention": "dispatch",
    "generate": "api",
    "load": "checkpoint",
    "resolve": "kernels",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gpt149' has no attribute '{name}'")
    return getattr(importlib.import_module(f"gpt149.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
