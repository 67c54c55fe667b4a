"""Kernels written in Python: a function `attention(q, k, v, *, causal, scale)` in a .py file.

A file of Triton runs in Triton's interpreter, which needs no GPU: the tensors are on the CPU.
"""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...errors import BuildError, InputError, KernelRaised, MissingDependency
from ...system.files import read_bytes
from ...system.words import in_shell
from ..abi import Feature
from .tensors import CONVERTED, TensorFunction, TensorKernel, features_of

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_NAME = "attention"
TRITON = re.compile(rb"^\s*(?:import|from)\s+triton\b", re.MULTILINE)
JIT = re.compile(rb"\bjit\b")  # without, a file asks only whether triton is there
OPTIONAL = ("numba", "triton")  # packages that kernels are written with
_loaded = itertools.count()


def function(module: ModuleType, path: Path, name: str) -> TensorKernel:
    """The function `name` (empty: `attention`) of a Python file's module.

    Raises:
        InputError: it has no such function.
    """
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
        checked(function, path),
        "triton interpreter" if is_triton(path) else "python",
        _features(function),
    )


def _features(function: Callable[..., Any]) -> Feature:
    try:
        return features_of(function)
    except ValueError:  # compiled ones may not tell their parameters
        return CONVERTED


def is_triton(path: Path) -> bool:
    """Whether a file's kernels are Triton's."""
    return path.suffix == ".py" and _uses_triton(read_bytes(path))


def _uses_triton(text: bytes) -> bool:
    return bool(TRITON.search(text) and JIT.search(text))


def execute(path: Path) -> ModuleType:
    """The module of a Python file.

    Raises:
        InputError: it cannot be read.
        MissingDependency: it is written with a package that is not there.
        BuildError: it raises an exception.
    """
    text = read_bytes(path)
    if _uses_triton(text):
        os.environ["TRITON_INTERPRET"] = "1"
    module = ModuleType(f"gpt149_kernel_{next(_loaded)}")
    module.__file__ = str(path)
    # Where decorators such as torch.compile look for the module of a function, and for its lines.
    sys.modules[module.__name__] = module
    try:
        code = compile(text, str(path), "exec")
        with _beside(path):
            exec(code, module.__dict__)
    except (Exception, SystemExit) as e:
        if isinstance(e, ModuleNotFoundError) and e.name in OPTIONAL:
            raise MissingDependency(
                f"{path} needs the package {e.name}, which is not installed: pip install {e.name}."
            ) from e
        raise BuildError(f"{path} cannot be loaded: {said(e, path)}") from e
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Files beside this one can be imported, as when Python runs it; another kernel has others.

    Where none is called `task`, which tasks of GPU MODE have for types alone, an empty one is.
    """
    folder, before = str(path.resolve().parent), set(sys.modules)
    sys.path.insert(0, folder)
    if importlib.util.find_spec("task") is None:
        sys.modules["task"] = _Types("task")
    try:
        yield
    finally:
        sys.path.remove(folder)
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if name == "task" or file.startswith(f"{folder}{os.sep}"):
                del sys.modules[name]


class _Types(ModuleType):
    """A module in which every name is a type of anything."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


def checked(function: TensorFunction, path: Path) -> TensorFunction:
    """The function, with its exceptions and odd results as errors of ours."""

    def run(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, scale: float, **variants: Any) -> Any:
        try:
            out = function(q, k, v, causal=causal, scale=scale, **variants)
        except KernelRaised:
            raise
        except (Exception, SystemExit) as e:
            raise KernelRaised(f"the kernel {path} raised {said(e, path)}") from e
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


def said(error: BaseException, path: Path) -> str:
    """The exception and the line of the kernel's file that it came through."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = own[-1].lineno if own else getattr(error, "lineno", None)
    where = f" at {path.name}:{line}" if line else ""
    return f"{type(error).__name__}{where}: {error}"
