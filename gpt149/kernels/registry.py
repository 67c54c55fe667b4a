"""Which kernels there are: a name or a file becomes a Kernel."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import InputError, SeveralKernels
from ..system.paths import shipped
from ..system.words import in_shell
from . import languages
from .build import Target, build_all
from .loaders import cfuncs, contract, cs149, python
from .loaders.contract import ContractKernel
from .loaders.tensors import TENSOR_KERNELS, TensorKernel

Kernel = ContractKernel | TensorKernel

CONTRACT_BUILTINS = (
    "naive",
    "blocked",
    "fused",
    "flash",
    "simd",
)  # csrc/kernels/NAME.cpp, by difficulty
BUILTINS = (*CONTRACT_BUILTINS, *TENSOR_KERNELS)
DEFAULT = "simd"
CPP = (".cpp", ".cc", ".cxx")
COMPILED = (*CPP, languages.C, languages.RUST, languages.ZIG)
LIBRARIES = (".so", ".dylib")
# What breaks a report's lines, and what clang takes for a / where it says what it included.
UNSPEAKABLE = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True)
class Source:
    """What a spec names, before anything of it is compiled or loaded.

    loader: contract, library, cs149, python or tensors. path: the file (of tensors, None). name:
    which of the file's kernels, "" for the only one; of tensors, which.
    """

    loader: str
    path: Path | None
    name: str

    def __str__(self) -> str:
        return self.name if self.path is None else str(self.path)


def is_file_spec(spec: str) -> bool:
    """Whether the spec means a user's own file (`./mine.cpp`, `mine.cpp:name`), not a name."""
    if spec in BUILTINS:  # whatever files lie in the current folder
        return False
    return "/" in spec or Path(spec).is_file() or Path(spec.partition(":")[0]).suffix != ""


def resolve(spec: str | Path) -> Kernel:
    """The kernel that `spec` names: one of BUILTINS, `FILE`, or `FILE:NAME`.

    FILE is C++, C, Rust or Zig that keeps the contract of csrc/gpt149.h, a shared library of such
    kernels, a module.cpp of cs149gpt, or Python.

    Raises:
        InputError: no such kernel or file; the nearest name is suggested.
        BuildError, MissingDependency: it cannot be compiled.
    """
    source = locate(spec)
    return load(source, compiled(source))


def is_square(kernel: Kernel) -> bool:
    """Whether it is a kernel of cs149gpt, which knows calls with n_q = n_kv alone."""
    return isinstance(kernel, ContractKernel) and kernel.square


def locate(spec: str | Path) -> Source:
    """What `spec` names.

    Raises:
        InputError: no such kernel or file; the nearest name is suggested.
    """
    spec = str(spec)
    if is_file_spec(spec):
        return _file(spec)
    if spec in TENSOR_KERNELS:
        return Source("tensors", None, spec)
    if spec in CONTRACT_BUILTINS:
        return Source("contract", shipped("csrc") / "kernels" / f"{spec}.cpp", spec)
    raise InputError(
        f"unknown attention kernel '{spec}'. {_did_you_mean(spec, list(BUILTINS))}"
        f"Built in: {', '.join(BUILTINS)}; or a path to a file of yours, such as mine.cpp."
    )


def compiled(source: Source) -> Path | None:
    """The source's shared library, built if need be; None for what is Python.

    Raises:
        BuildError, MissingDependency: it cannot be compiled.
    """
    if source.loader == "cs149" and source.path:
        return cs149.compile_module(source.path)
    if source.loader == "library" and source.path:
        return source.path.resolve()
    target = to_build(source)
    return build_all([target])[0] if target else None


def to_build(source: Source) -> Target | None:
    """What the source's library is built of; None for Python, and for what is built.

    A kernel that ships may lie in several files, NAME.cpp and NAME_*.cpp.
    """
    if source.path is None or source.loader in ("python", "library"):
        return None
    if source.loader == "cs149":
        return cs149.target(source.path)
    folder = shipped("csrc") / "kernels"
    ours = source.path.parent == folder
    parts = sorted(folder.glob(f"{source.path.stem}_*.cpp")) if ours else []
    return Target((source.path, *parts))


def load(source: Source, library: Path | None) -> Kernel:
    """The kernel itself: from here on, code of its author runs in this process.

    Raises:
        BuildError: it does not load.
        InputError: the file has no kernel of that name, or several and none is named.
    """
    if library is not None:
        found = {kernel.name: kernel for kernel in contract.open_library(library, str(source))}
        chosen = found[_choose(source, list(found))]
        chosen.square = source.loader == "cs149"
        return chosen
    if source.path is not None:
        module = python.execute(source.path)
        if of_contract := {k.name: k for k in cfuncs.kernels(module, str(source))}:
            return of_contract[_choose(source, list(of_contract))]
        return python.function(module, source.path, source.name)
    return TENSOR_KERNELS[source.name]()


def described(source: Source, library: Path | None) -> str:
    """A source and its library as a child process is told of them, in JSON."""
    return json.dumps(
        {
            "loader": source.loader,
            "path": str(source.path) if source.path else None,
            "name": source.name,
            "library": str(library) if library else None,
        }
    )


def load_described(described: str) -> Kernel:
    """The kernel that `described` speaks of."""
    found = json.loads(described)
    path, library = (Path(p) if p else None for p in (found["path"], found["library"]))
    return load(Source(found["loader"], path, found["name"]), library)


def check_path(path: Path) -> None:
    """Raise InputError where a kernel's path cannot be compiled, included or shown."""
    if odd := UNSPEAKABLE.search(str(path.resolve())):
        raise InputError(
            f"{str(path)!r} cannot be a kernel: there is {odd[0]!r} in its path. Paths of kernels "
            "hold no \\, no line breaks and other control characters: rename it."
        )


def _file(spec: str) -> Source:
    path, name = Path(spec), ""
    if not path.is_file() and ":" in spec:
        file, _, name = spec.rpartition(":")
        path = Path(file)
        if not name and path.is_file():
            raise InputError(
                f"'{spec}' names no kernel behind the colon. Give {in_shell(path)}, or "
                f"{in_shell(path)}:NAME."
            )
    if not path.is_file():
        raise InputError(
            f"no kernel file {path}. Built in: {', '.join(BUILTINS)}; or a path to a file of "
            "yours. `gpt149 new mine.cpp` writes one to start from."
        )
    check_path(path)
    if path.suffix == ".py":
        return Source("python", path, name)
    if path.suffix in LIBRARIES:
        return Source("library", path, name)
    if path.suffix not in COMPILED:
        endings = ", ".join((*COMPILED, *LIBRARIES))
        raise InputError(f"{path} is not a kernel: its name must end in {endings} or .py.")
    if path.suffix in CPP and cs149.is_module(path):
        return Source("cs149", path, cs149.NAMES.get(name, name))
    return Source("contract", path, name)


def _choose(source: Source, found: list[str]) -> str:
    if not source.name and len(found) == 1:
        return found[0]
    if source.name in found:
        return source.name
    problem = f"has no kernel '{source.name}'" if source.name else f"holds {len(found)} kernels"
    known = list(cs149.NAMES) if source.loader == "cs149" else found
    kind = InputError if source.name else partial(SeveralKernels, names=known)
    raise kind(
        f"{source} {problem}. {_did_you_mean(source.name, known)}Choose one with "
        f"{in_shell(source)}:NAME, NAME one of {', '.join(known)}."
    )


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean '{near[0]}'? " if near else ""
