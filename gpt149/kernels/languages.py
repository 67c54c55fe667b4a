"""Kernels in C, Rust and Zig: what compiles them, with which words, and what they include.

C goes through the C++ compiler, as C. rustc and zig each make a library of a file by one command;
csrc/gpt149.rs and csrc/gpt149.zig are the contract in their words.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..errors import MissingDependency
from ..system.paths import cache_dir, shipped

C, RUST, ZIG = ".c", ".rs", ".zig"
ZIG_CACHE = "zig.tmp"  # of one build
# What a file of Zig takes from others beside it.
ZIG_FILES = re.compile(r'@(?:import|embedFile)\("([^"\n]+\.\w+)"\)')


def as_c(words: Sequence[str]) -> tuple[str, ...]:
    """A C++ compiler's command for a file of C. GNU's C11: POSIX and M_PI are there, as in C++."""
    return (*("-std=gnu11" if word.startswith("-std=") else word for word in words), "-xc")


def whole(source: Path, output: str, depfile: str, *, lines: bool) -> tuple[str, ...]:
    """The command that makes a shared library of a file of Rust or Zig; () for other files.

    lines: with what tells addresses their lines; zig takes seconds for that.

    Raises:
        MissingDependency: there is no such compiler.
    """
    file = str(source.resolve())
    cpu = os.environ.get("GPT149_MARCH", "native")
    if source.suffix == RUST:
        # A panic ends the process with its message: it must not unwind into the caller.
        return (
            "env", f"GPT149_RS={shipped('csrc') / 'gpt149.rs'}", *compiler_of(source),
            "--edition=2021", "--crate-type=cdylib", "--crate-name=kernel", "-Copt-level=3",
            f"-Ctarget-cpu={cpu}", "-Cpanic=abort", f"-Cdebuginfo={int(lines)}",
            f"-Cstrip={'none' if lines else 'debuginfo'}",
            f"--emit=link={output},dep-info={depfile}", file,
        )  # fmt: skip
    if source.suffix == ZIG:
        kept, unkept = cache_dir() / "zig", Path(output).with_name(ZIG_CACHE)
        return (
            *compiler_of(source), "build-lib", "-dynamic", "-OReleaseFast",
            f"-mcpu={cpu.replace('-', '_')}", "-lc", "-fno-strip" if lines else "-fstrip",
            "--dep", "gpt149", f"-Mroot={file}", f"-Mgpt149={shipped('csrc') / 'gpt149.zig'}",
            "--cache-dir", str(unkept), "--global-cache-dir", str(kept), f"-femit-bin={output}",
        )  # fmt: skip
    return ()


def compiler_of(source: Path) -> list[str]:
    """The path of rustc or zig, whichever compiles a file; [] where the C++ compiler does.

    Raises:
        MissingDependency: it is not there.
    """
    if source.suffix == RUST:
        if found := shutil.which(os.environ.get("RUSTC") or "rustc"):
            return [found]
        raise MissingDependency(
            "no rustc found, which compiles kernels in Rust. Install it with `sudo apt install "
            "rustc` (Debian, Ubuntu) or from rustup.rs; RUSTC names another."
        )
    if source.suffix == ZIG:
        package = importlib.util.find_spec("ziglang")
        if found := shutil.which("zig"):
            return [found]
        if package and package.origin:
            return [str(Path(package.origin).with_name("zig"))]
        raise MissingDependency(
            "no zig found, which compiles kernels in Zig. Install it with `pip install ziglang`, "
            "or from ziglang.org."
        )
    return []


def version_words(source: Path) -> str:
    """How the compiler of a file is asked for its version."""
    return "version" if source.suffix == ZIG else "--version"


def read_by_zig(source: Path) -> list[Path]:
    """The files that one of Zig is made of: zig does not list them."""
    found, waiting = dict[Path, None](), [source.resolve(), shipped("csrc") / "gpt149.zig"]
    while waiting:
        file = waiting.pop()
        if file in found or not file.is_file():
            continue
        found[file] = None
        text = file.read_text(encoding="utf-8", errors="replace")
        waiting += [(file.parent / name).resolve() for name in ZIG_FILES.findall(text)]
    return list(found)


def no_sanitizers(source: Path) -> str:
    """Why a file cannot be built with sanitizers; empty if it can."""
    if source.suffix == RUST:
        return (
            "rustc has sanitizers in its nightly builds alone. What is not unsafe panics where an "
            "index is out of bounds, and `check` says in which line"
        )
    if source.suffix == ZIG:
        return (
            "zig has no such sanitizers. With @setRuntimeSafety(true) in a function, an index out "
            "of a slice's bounds panics, and `check` says so"
        )
    return ""
