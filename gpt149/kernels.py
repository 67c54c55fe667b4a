"""Which kernels there are: a name or a file becomes a Kernel."""

from __future__ import annotations

import difflib
from pathlib import Path

from .errors import InputError
from .loaders import contract
from .loaders.contract import ContractKernel
from .loaders.tensors import TENSOR_KERNELS, TensorKernel
from .paths import shipped

Kernel = ContractKernel | TensorKernel

CONTRACT_BUILTINS = ("naive", "blocked", "fused", "flash")  # csrc/NAME.cpp, by difficulty
BUILTINS = (*CONTRACT_BUILTINS, *TENSOR_KERNELS)
DEFAULT = "flash"


def is_file_spec(spec: str) -> bool:
    """Whether the spec means a user's own file (`./mine.cpp`, `mine.cpp:name`), not a name."""
    return "/" in spec or Path(spec).is_file() or Path(spec.partition(":")[0]).suffix != ""


def resolve(spec: str | Path) -> Kernel:
    """The kernel that `spec` names: one of BUILTINS, `FILE.cpp`, or `FILE.cpp:NAME`.

    Raises:
        InputError: no such kernel or file; the nearest name is suggested.
        BuildError, MissingDependency: it cannot be compiled.
    """
    spec = str(spec)
    if is_file_spec(spec):
        return _from_file(spec)
    if spec in TENSOR_KERNELS:
        return TENSOR_KERNELS[spec]()
    if spec in CONTRACT_BUILTINS:
        return contract.load(shipped("csrc") / f"{spec}.cpp")[0]
    raise InputError(
        f"unknown attention kernel '{spec}'. {_did_you_mean(spec, list(BUILTINS))}"
        f"Built in: {', '.join(BUILTINS)}; or a path to a .cpp file."
    )


def _from_file(spec: str) -> Kernel:
    path, name = Path(spec), ""
    if not path.is_file() and ":" in spec:
        file, _, name = spec.rpartition(":")
        path = Path(file)
    if not path.is_file():
        raise InputError(
            f"no kernel file {path}. Built in: {', '.join(BUILTINS)}; or a path to a .cpp file."
        )
    if path.suffix not in (".cpp", ".cc", ".cxx"):
        raise InputError(f"{path} is not a kernel: its name must end in .cpp, .cc or .cxx.")
    found = {kernel.name: kernel for kernel in contract.load(path)}
    if not name and len(found) == 1:
        return next(iter(found.values()))
    if name in found:
        return found[name]
    problem = f"has no kernel '{name}'" if name else f"holds {len(found)} kernels"
    raise InputError(
        f"{path} {problem}. {_did_you_mean(name, list(found))}Choose one with {path}:NAME, "
        f"NAME one of {', '.join(found)}."
    )


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean '{near[0]}'? " if near else ""
