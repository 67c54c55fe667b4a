"""Kernels of Stanford's CS149 assignment 4: a `module.cpp` of cs149gpt, as it is.

`csrc/cs149/adapter.cpp` includes the file and offers its functions as kernels of our contract, so
everything behind the loader is the same. Headers of torch come from a stand-in of our own, which
compiles in seconds and under sanitizers; what needs more gets torch's own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sysconfig
from dataclasses import replace
from pathlib import Path

from ...errors import BuildError, InputError, MissingDependency
from ...system.paths import cache_dir, shipped, write_whole
from ..build import Target, build_all, cached, digest, locked
from ..compiler import version_of

log = logging.getLogger(__name__)

# Every name that a kernel of a module goes by, and that of its function.
FUNCTIONS = (
    "myNaiveAttention",
    "myUnfusedAttentionBlocked",
    "myFusedAttention",
    "myFlashAttention",
)
NAMES = {
    name: function
    for number, (idea, function) in enumerate(
        zip(("naive", "blocked", "fused", "flash"), FUNCTIONS, strict=True), start=1
    )
    for name in (idea, f"part{number}", function)
}

# Students' code is compiled as it is: names that the assignment makes them leave unused are theirs.
QUIET = ("-Wno-unused", "-Wno-unused-parameter", "-Wno-sign-compare", "-Wno-unknown-pragmas")
BINDINGS = re.compile(r"^\s*PYBIND11_MODULE\b", re.MULTILINE)
ISPC_INCLUDE = re.compile(r'^\s*#\s*include\s*"(\w+)_ispc\.h"', re.MULTILINE)
# What the compiler says of a name that an empty header in the place of ispc's does not declare.
UNDECLARED = re.compile(r"^.*error: .*(?:not declared|not a member of .ispc|undeclared).*$", re.M)
ISPC_FLAGS = ("-O3", "--target=avx2-i32x8", "--arch=x86-64", "--pic")
# What the compiler says where the stand-in lacks something, as against a mistake of the author's.
BEYOND_STANDIN = re.compile(
    r"^.*error: .*(?:\b(?:at|torch|c10|pybind11|py)::|not a member of .(?:at|torch|c10|py|std)"
    r"|(?:torch|ATen|c10|pybind11)/\S+: No such file).*$",
    re.MULTILINE,
)


def is_module(path: Path) -> bool:
    """Whether a C++ file is a torch extension, as cs149gpt's modules are."""
    try:
        return bool(BINDINGS.search(path.read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return False


def compile_module(path: Path) -> Path:
    """The shared library of a module behind the adapter.

    Raises:
        BuildError: it does not compile, not even against torch's own headers.
        MissingDependency: it needs ispc, or a compiler, or Python's headers.
    """
    try:
        return _compiled(path)
    except BuildError as e:
        lacks, undeclared = _lacking_ispc(path), UNDECLARED.search(e.output)
        if not lacks or not undeclared:
            raise
        raise MissingDependency(f"{lacks} The compiler says: {undeclared[0].strip()}") from e


def _compiled(path: Path) -> Path:
    """See `compile_module`."""
    torchs = _torch_target(path)
    if torchs and (library := cached(torchs)):
        return library
    try:
        return build_all([target(path)])[0]
    except BuildError as e:
        beyond = BEYOND_STANDIN.search(e.output)
        if not beyond or not torchs:
            raise
        log.info(
            "%s uses more of torch than gpt149's stand-in headers have (%s). Compiling against "
            "torch's own, which takes half a minute, once.",
            path.name,
            beyond[0].strip(),
        )
    return build_all([torchs])[0]


def target(path: Path) -> Target:
    """The module behind the adapter, against the stand-in.

    Raises:
        BuildError: ispc fails.
    """
    adapter = shipped("csrc") / "cs149" / "adapter.cpp"
    ispc = _ispc(path)
    flags = (f"-I{adapter.parent / 'standin'}", *QUIET, *(f"-I{header.parent}" for header in ispc))
    module = f'-DMODULE_FILE="{includable(path.resolve())}"'
    objects = [
        str(header.with_suffix(".o")) for header in ispc if header.with_suffix(".o").exists()
    ]
    return Target((adapter,), (*flags, module), tuple(objects), subject=path)


def includable(path: Path) -> Path:
    """The path, or a file that includes it, where a double quote would end it in an #include.

    Raises:
        InputError: neither can be written.
    """
    if '"' not in str(path):
        return path
    if ">" in str(path):
        raise InputError(
            f'{path} cannot be included: there are both " and > in its path. Rename it.'
        )
    file = cache_dir() / "kernels" / f"include-{digest(str(path))[:20]}" / "module.h"
    with locked(file.parent):
        if not file.exists():
            write_whole(file, os.fsencode(f"#include <{path}>\n"))
    return file


def seen_in_editor(path: Path) -> Target:
    """The module as the file that is compiled, the adapter before it. Raises as `target`."""
    ours = target(path)
    adapter = str(ours.sources[0])
    flags = (*ours.flags[:-1], '-DMODULE_FILE="/dev/null"', "-include", adapter)
    return replace(ours, sources=(path,), flags=flags)


def _torch_target(path: Path) -> Target | None:
    """Likewise against torch; None where torch or Python's headers are missing."""
    spec = importlib.util.find_spec("torch")
    python = Path(sysconfig.get_paths()["include"])
    if spec is None or spec.origin is None or not (python / "Python.h").exists():
        return None
    folder = Path(spec.origin).parent
    headers = (folder / "include", folder / "include/torch/csrc/api/include", python)
    libraries = folder / "lib"
    ours = target(path)
    flags = (
        "-std=c++20",
        *(f"-isystem{header}" for header in headers),
        f"-DTORCH_VERSION={importlib.metadata.version('torch')}",  # for the cache's key
        "-DTORCH_EXTENSION_NAME=module",
        *ours.flags[1:],  # without the stand-in
    )
    linked = (f"-L{libraries}", f"-Wl,-rpath,{libraries}")
    names = ("-ltorch_cpu", "-lc10", "-ltorch", "-ltorch_python")
    return replace(ours, flags=flags, libraries=(*ours.libraries, *linked, *names))


def _ispc_sources(path: Path) -> list[Path]:
    """The files of ispc whose headers a module includes, whether they are there or not."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return [path.with_name(f"{name}.ispc") for name in dict.fromkeys(ISPC_INCLUDE.findall(text))]


def _lacking_ispc(path: Path) -> str:
    """What a module lacks that uses what ispc makes for it; empty if it lacks nothing."""
    missing = [source for source in _ispc_sources(path) if not source.is_file()]
    if not _ispc_sources(path) or (shutil.which("ispc") and not missing):
        return ""
    source = (missing or _ispc_sources(path))[0]
    lack = f"there is no {source}" if shutil.which("ispc") else "ispc is not on the PATH"
    return (
        f"{path} uses what ispc makes of {source.name}, and {lack}. Install it from "
        "ispc.github.io, or comment the include and what uses it out."
    )


def _ispc(path: Path) -> list[Path]:
    """The headers of ispc that a module includes, made of the files beside it.

    Empty ones where there is no ispc, or no such file: cs149gpt's template includes one that few
    parts need.

    Raises:
        BuildError: ispc fails.
    """
    ispc, headers = shutil.which("ispc"), list[Path]()
    for source in _ispc_sources(path):
        name = f"{source.stem}_ispc"
        if ispc is None or not source.is_file():
            out = cache_dir() / "kernels" / f"ispc-none-{source.stem}"
            with locked(out):
                if not (out / f"{name}.h").exists():
                    write_whole(out / f"{name}.h", b"namespace ispc {}\n")
        else:
            key = digest(source.read_bytes(), *ISPC_FLAGS, ispc, version_of([ispc]))
            out = cache_dir() / "kernels" / f"ispc-{key[:20]}"
            header, binary = out / f"{name}.h", out / f"{name}.o"
            with locked(out):
                if not binary.exists():
                    _run_ispc([ispc, *ISPC_FLAGS, str(source), "-h", str(header)], source, binary)
        headers.append(out / f"{name}.h")
    return headers


def _run_ispc(command: list[str], source: Path, binary: Path) -> None:
    partial = binary.with_suffix(".tmp")
    command = [*command, "-o", str(partial)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BuildError(f"{source} does not compile.\n$ {' '.join(command)}\n{done.stderr}")
    partial.replace(binary)
