"""Which kernels there are: a name or a file becomes a Kernel."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ..errors import InputError, SeveralKernels
from ..system.paths import shipped
from ..system.words import in_shell
from . import languages
from .build import Target, build_all
from .loaders import c_functions, cfuncs, contract, cs149, python, python_functions, python_reading
from .loaders.contract import ContractKernel
from .loaders.tensors import TENSOR_KERNELS, TensorKernel
from .signatures import Signature

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

    loader: contract, library, cs149, function, python or tensors. path: the file (of tensors,
    None). name: which of the file's kernels, "" for the only one; of tensors, which. signature: of
    a function that is not of the contract, as it is read from the file.
    """

    loader: str
    path: Path | None
    name: str
    signature: Signature | None = None

    @property
    def square(self) -> bool:
        """Whether it knows n_q = n_kv alone."""
        return self.loader == "cs149" or (self.signature is not None and self.signature.square)

    @property
    def is_told_threads(self) -> bool:
        """Whether n_threads reaches it, and not only OpenMP."""
        return self.loader != "cs149" and (
            self.signature is None or "n_threads" in self.signature.roles
        )

    def one_by_one(self, causal: bool) -> bool:
        """Whether such a call becomes one a query, each over all keys that the query sees."""
        if self.signature is None:
            return self.loader == "cs149" and causal
        return self.signature.one_by_one(causal)

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
    kernels, a module.cpp of cs149gpt, a plain function of C or C++, or Python.

    Raises:
        InputError: no such kernel or file; the nearest name is suggested.
        BuildError, MissingDependency: it cannot be compiled.
    """
    source = locate(spec)
    return load(source, compiled(source))


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
    if source.loader == "function" and source.signature:
        return c_functions.target(source.path, source.signature)
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
        chosen.adapted = source.loader in ("cs149", "function")
        return chosen
    if source.path is not None:
        module = python.execute(source.path)
        if of_contract := {k.name: k for k in cfuncs.kernels(module, str(source))}:
            return of_contract[_choose(source, list(of_contract))]
        if source.signature:
            return python_functions.function(module, source.path, source.signature)
        return python.function(module, source.path, source.name)
    return TENSOR_KERNELS[source.name]()


def described(source: Source, library: Path | None) -> str:
    """A source and its library as a child process is told of them, in JSON."""
    return json.dumps(
        {
            "loader": source.loader,
            "path": str(source.path) if source.path else None,
            "name": source.name,
            "signature": asdict(source.signature) if source.signature else None,
            "library": str(library) if library else None,
        }
    )


def load_described(described: str) -> Kernel:
    """The kernel that `described` speaks of."""
    found = json.loads(described)
    path, library = (Path(p) if p else None for p in (found["path"], found["library"]))
    read = found["signature"]
    signature = (
        Signature(**{**read, **{n: tuple(read[n]) for n in ("roles", "names")}}) if read else None
    )
    return load(Source(found["loader"], path, found["name"], signature), library)


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
        return Source("python", path, name, python_reading.read(_text(path), str(path), name))
    if path.suffix in LIBRARIES:
        return Source("library", path, name)
    if path.suffix not in COMPILED:
        endings = ", ".join((*COMPILED, *LIBRARIES))
        raise InputError(f"{path} is not a kernel: its name must end in {endings} or .py.")
    if path.suffix in CPP and cs149.is_module(path):
        return Source("cs149", path, cs149.NAMES.get(name, name))
    if path.suffix in (*CPP, languages.C) and (
        read := c_functions.read(_text(path), str(path), name)
    ):
        return Source("function", path, read.function, read)
    return Source("contract", path, name)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # the compiler says why


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
