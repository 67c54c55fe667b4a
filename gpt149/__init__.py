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
    from .engine.generation import Generation as Generation
    from .engine.sampling import Sampling as Sampling
    from .engine.texts import Options as Options
    from .engine.texts import Prompt as Prompt
    from .errors import Gpt149Error as Gpt149Error
    from .kernels.dispatch import Attention as Attention
    from .kernels.dispatch import attention as attention
    from .kernels.registry import BUILTINS as BUILTINS
    from .kernels.registry import resolve as resolve
    from .model.checkpoint import Checkpoint as Checkpoint
    from .model.checkpoint import load as load

_HOME = {
    "Attention": "kernels.dispatch",
    "BUILTINS": "kernels.registry",
    "Checkpoint": "model.checkpoint",
    "Generation": "engine.generation",
    "Gpt149Error": "errors",
    "Options": "engine.texts",
    "Prompt": "engine.texts",
    "Sampling": "engine.sampling",
    "attention": "kernels.dispatch",
    "generate": "api",
    "load": "model.checkpoint",
    "resolve": "kernels.registry",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gpt149' has no attribute '{name}'")
    return getattr(importlib.import_module(f"gpt149.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
