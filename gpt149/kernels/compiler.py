"""The C++ compiler of this machine, and how it is asked for what this CPU can do."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from ..errors import InputError, MachineFault, MissingDependency

# No -ffast-math, not from CXX either: it lets the compiler assume that there are no NaNs and
# infinities, and a library linked with it has the whole process flush denormals.
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-fno-fast-math", "-fno-unsafe-math-optimizations")
LIBRARY_FLAGS = ("-O3", "-fPIC")
# -g1: functions and lines are all that is told, and the rest takes a third of the time.
SANITIZER_FLAGS = ("-O1", "-g1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
HOMEBREW_OPENMP = ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp")


def find_compiler() -> list[str]:
    """$CXX (which may carry flags), or the first of c++, g++ and clang++ on the PATH.

    Raises:
        InputError: $CXX is no command line.
        MissingDependency: there is none.
    """
    said = os.environ.get("CXX", "")
    try:
        chosen = [word for word in shlex.split(said) if word]
    except ValueError as e:
        raise InputError(
            f"CXX is {said!r}, which is no command line: {str(e).lower()}. Mend it, or unset it."
        ) from e
    wanted = chosen[:1] or ["c++", "g++", "clang++"]
    for name in wanted:
        if path := shutil.which(name):
            return [path, *chosen[1:]]
    hint = (
        "`xcode-select --install`, and `brew install libomp` for OpenMP"
        if sys.platform == "darwin"
        else "`sudo apt install g++` (Debian, Ubuntu) or `sudo dnf install gcc-c++` (Fedora)"
    )
    raise MissingDependency(
        f"no C++ compiler found (looked for {', '.join(wanted)}), and kernels, the engine "
        f"and what chooses tokens are compiled on first use. Install one with {hint}."
    )


def machine_flags() -> list[str]:
    """The instruction set and OpenMP, as this platform's compiler spells them.

    `GPT149_MARCH` replaces `native` in -march=native, for tests of other instruction sets.
    """
    arm = platform.machine() in ("arm64", "aarch64")
    flags = [f"-m{'cpu' if arm else 'arch'}={os.environ.get('GPT149_MARCH', 'native')}"]
    if sys.platform != "darwin":
        return [*flags, "-fopenmp"]
    return [*flags, "-Xpreprocessor", "-fopenmp", f"-I{_homebrew_openmp()}/include"]


def machine_libraries() -> list[str]:
    """What is linked for OpenMP where the flag does not do it."""
    return [f"-L{_homebrew_openmp()}/lib", "-lomp"] if sys.platform == "darwin" else []


def _homebrew_openmp() -> str:
    return next((p for p in HOMEBREW_OPENMP if Path(p).is_dir()), HOMEBREW_OPENMP[0])


def version_of(compiler: list[str], asked: str = "--version") -> str:
    """What a compiler says of itself.

    Raises:
        MachineFault: it cannot be run.
    """
    try:
        return subprocess.run(
            [*compiler, asked], capture_output=True, text=True, errors="replace", check=False
        ).stdout
    except OSError as e:
        raise MachineFault(f"cannot run the compiler {compiler[0]}: {e.strerror}. Set CXX.") from e


def cpu() -> str:
    """Model and feature flags: a library for one CPU can be an illegal instruction on another."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        line for line in cpuinfo.splitlines() if line.startswith(("model", "flags", "Features"))
    )
