"""Kernels written in Python: a function `attention(q, k, v, *, causal, scale)` in a .py file."""

from __future__ import annotations

import inspect
import itertools
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...errors import BuildError, InputError, KernelRaised
from ...system.files import read_bytes
from ...system.words import in_shell
from ..abi import Feature
from .tensors import CONVERTED, TensorFunction, TensorKernel, features_of

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_NAME = "attention"
_loaded = itertools.count()


def load(path: Path, name: str) -> TensorKernel:
    """The function `name` (empty: `attention`) of a Python file, which is executed.

    Raises:
        BuildError: the file raises an exception.
        InputError: it cannot be read, or has no such function.
    """
    module = _execute(path)
    function = getattr(module, name or DEFAULT_NAME, None)
    if not callable(function):
        raise InputError(
            f"{path} has no function '{name or DEFAULT_NAME}'. A kernel in Python is a function "
            "attention(q, k, v, *, causal, scale) of torch tensors (batch, n_head, n, head_dim); "
            f"choose one of another name with {in_shell(path)}:NAME."
        )
    idea = (inspect.getdoc(function) or "a function in Python").splitlines()[0]
    return TensorKernel(
        name or path.stem,
        idea,
        "chosen by Python",
        _checked(function, path),
        "python",
        _features(function),
    )


def _features(function: Callable[..., Any]) -> Feature:
    try:
        return features_of(function)
    except ValueError:  # compiled ones may not tell their parameters
        return CONVERTED


def _execute(path: Path) -> ModuleType:
    text = read_bytes(path)
    module = ModuleType(f"gpt149_kernel_{next(_loaded)}")
    module.__file__ = str(path)
    # Where decorators such as torch.compile look for the module of a function, and for its lines.
    sys.modules[module.__name__] = module
    try:
        code = compile(text, str(path), "exec")
        exec(code, module.__dict__)
    except (Exception, SystemExit) as e:
        raise BuildError(f"{path} cannot be loaded: {_said(e, path)}") from e
    return module


def _checked(function: TensorFunction, path: Path) -> TensorFunction:
    """The function, with its exceptions and odd results as errors of ours."""

    def run(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, **variants: Any) -> Any:
        try:
            out = function(q, k, v, causal=causal, scale=scale, **variants)
        except (Exception, SystemExit) as e:
            raise KernelRaised(f"the kernel {path} raised {_said(e, path)}") from e
        size = (*q.shape[:3], v.shape[3])
        if not variants.get("return_lse"):
            check(out, size, "(batch, n_head, n_q, head_dim)")
            return out
        if not isinstance(out, tuple) or len(out) != 2:
            raise KernelRaised(
                f"the kernel {path} returned {type(out).__name__}, and with return_lse must return "
                "the pair (out, lse)."
            )
        check(out[0], size, "(batch, n_head, n_q, head_dim)")
        check(out[1], size[:3], "(batch, n_head, n_q)")
        return out

    def check(out: object, size: tuple[int, ...], words: str) -> None:
        import torch

        if not isinstance(out, torch.Tensor):
            raise KernelRaised(f"the kernel {path} returned {type(out).__name__}, not a tensor.")
        if out.shape != size or out.dtype != torch.float32:
            raise KernelRaised(
                f"the kernel {path} returned {out.dtype} {tuple(out.shape)}, and must return "
                f"torch.float32 {size} {words}."
            )

    return run


def _said(error: BaseException, path: Path) -> str:
    """The exception and the line of the kernel's file that it came through."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = own[-1].lineno if own else getattr(error, "lineno", None)
    where = f" at {path.name}:{line}" if line else ""
    return f"{type(error).__name__}{where}: {error}"
