"""The C++ compiler, the machine that it compiles for, and how it is asked for what a CPU can do."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ..errors import InputError, MachineFault, MissingDependency

# No -ffast-math, not from CXX either: it lets the compiler assume that there are no NaNs and
# infinities, and a library linked with it has the whole process flush denormals.
FLAGS = ("-std=c++17", "-Wall", "-Wextra", "-fno-fast-math")
# clang++ means that by the above already, and makes no vectors where it is told so; and it stops
# at 20 mistakes by itself.
GXX_FLAGS = ("-fno-unsafe-math-optimizations", "-fmax-errors=20")
LIBRARY_FLAGS = ("-O3", "-fPIC")
# -g1: functions and lines are all that is told. It takes no time and changes no instruction; what
# sanitizers could tell besides takes three times as long.
LINES = "-g1"
SANITIZER_FLAGS = ("-O1", LINES, "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
# GPT149_MARCH takes one of these, or a value of the flag that the compiler's target has.
# Sources: AWS, "Getting started with Graviton", C/C++; clang -print-supported-cpus; the x86-64
# psABI's levels.
CPUS = {
    "avx2": ("x86_64-linux-gnu", "-march=x86-64-v3"),
    "avx512": ("x86_64-linux-gnu", "-march=x86-64-v4"),
    "graviton2": ("aarch64-linux-gnu", "-mcpu=neoverse-n1"),
    "graviton3": ("aarch64-linux-gnu", "-mcpu=neoverse-v1"),
    "graviton4": ("aarch64-linux-gnu", "-mcpu=neoverse-v2"),
    "apple-m1": ("arm64-apple-darwin", "-mcpu=apple-m1"),
    "apple-intel": ("x86_64-apple-darwin", "-march=x86-64-v3"),
}
ARM = ("aarch64", "arm64")
NO_OPENMP = re.compile(
    r"'omp\.h' file not found|cannot find -lomp|library .*\bl?omp\b"
)  # clang++'s
TOO_LONG = "CPU time limit exceeded"  # gcc's and clang's
# Apple's clang knows OpenMP's pragmas, and has neither the driver's flag nor the library.
HOMEBREW_OPENMP = ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp")


# What a compiler may take; a template or an #include can keep it busy for ever.
MOST_SECONDS = 120  # of CPU time
MOST_BYTES = 8 << 30


def find_compiler() -> list[str]:
    """$CXX (which may carry flags), or the first of c++, g++ and clang++ on the PATH.

    Raises:
        InputError: $CXX is no command line.
        MissingDependency: there is none, or not that of $CXX.
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
    if chosen:
        raise MissingDependency(
            f"CXX names the compiler {chosen[0]!r}, and there is no such program. Mend it, or "
            "unset it: then c++, g++ or clang++ is taken."
        )
    hint = (
        "`xcode-select --install`, and `brew install libomp` for OpenMP"
        if sys.platform == "darwin"
        else "`sudo apt install g++` (Debian, Ubuntu) or `sudo dnf install gcc-c++` (Fedora)"
    )
    raise MissingDependency(
        f"no C++ compiler found (looked for {', '.join(wanted)}), and kernels, the engine "
        f"and what chooses tokens are compiled on first use. Install one with {hint}."
    )


def compiler_for(sanitizers: str) -> list[str]:
    """That of `find_compiler`; for the thread sanitizer a clang++, whose OpenMP tells it who waits.

    Raises:
        InputError, MissingDependency: see `find_compiler`; or there is no clang++.
    """
    own = find_compiler()
    if sanitizers != "thread" or is_clang(tuple(own)):
        return own
    if path := shutil.which("clang++"):
        return [path]
    raise MissingDependency(
        f"--sanitize thread needs clang++: with {Path(own[0]).name}'s OpenMP each barrier looks "
        "like a race. Install it, its OpenMP and its sanitizers with `sudo apt install clang "
        "libomp-dev libclang-rt-dev` (Debian, Ubuntu)."
    )


def compiles_for() -> str:
    """The compiler's target, as `CPU-system`: by its own word where CXX names it.

    Raises:
        InputError, MissingDependency: see `find_compiler`.
        MachineFault: it cannot be run.
    """
    return (os.environ.get("CXX") and _target_of(tuple(find_compiler()))) or this_machine()


def this_machine() -> str:
    system = "apple-darwin" if sys.platform == "darwin" else f"{sys.platform}-gnu"
    return f"{platform.machine()}-{system}"


@lru_cache
def _target_of(compiler: tuple[str, ...]) -> str:
    return _asked([*compiler, "-dumpmachine"]).strip()


@lru_cache
def is_clang(compiler: tuple[str, ...]) -> bool:
    """Whether a compiler, which may go by any name, is clang: by what it says of itself."""
    return "clang" in version_of(compiler)


def flags_of(clang: bool, target: str, cpu: str) -> list[str]:
    """What every compilation and link has: see `machine_flags`."""
    return [*FLAGS, *(() if clang else GXX_FLAGS), *machine_flags(target, cpu)]


def machine_flags(target: str, cpu: str) -> list[str]:
    """The instruction set and OpenMP, as compilers for a target spell them.

    cpu: one of CPUS, or a value of -march or -mcpu. "native": of this machine, or, where the target
    is another one, the least that all of its kind have.

    Raises:
        InputError: the CPU is of another kind than the target.
    """
    arm = target.startswith(ARM)
    own, flag = CPUS.get(cpu, (target, ""))
    if own.startswith(ARM) != arm:
        raise InputError(
            f"{cpu} is a CPU of {own}, and the compiler compiles for {target}. Let CXX name one "
            f"for it, such as {own}-g++."
        )
    if cpu == "native" and not _is_this_kind(target):
        cpu = "generic" if arm else "x86-64"
    flags = [flag or f"-m{'cpu' if arm else 'arch'}={cpu}"]
    if "apple" not in target:
        return [*flags, "-fopenmp"]
    return [*flags, "-Xpreprocessor", "-fopenmp", f"-I{_homebrew_openmp()}/include"]


def machine_libraries(target: str) -> list[str]:
    """What is linked for OpenMP where the flag does not do it."""
    return [f"-L{_homebrew_openmp()}/lib", "-lomp"] if "apple" in target else []


def wanted_cpu() -> str:
    """See `machine_flags`."""
    return os.environ.get("GPT149_MARCH") or "native"


def hint(output: str) -> str:
    """What a compiler's last words mean beyond mistakes of the author's; else nothing."""
    if TOO_LONG in output:
        return f"A compiler is stopped after {MOST_SECONDS} s.\n"
    if not NO_OPENMP.search(output):
        return ""
    how = "brew install libomp" if sys.platform == "darwin" else "sudo apt install libomp-dev"
    return f"clang++ comes without OpenMP, which kernels and the engine use: `{how}`.\n"


def must_run_here(target: str) -> None:
    """Raise InputError unless this machine loads what is compiled for a target."""
    if not _is_this_kind(target) or ("apple" in target) != (sys.platform == "darwin"):
        raise InputError(
            f"CXX names a compiler for {target}, and this machine, {this_machine()}, cannot run "
            "what it makes. Unset CXX, or name a compiler for this machine."
        )


def bear_two_openmps() -> None:
    """Let this process, and its children, have a libomp besides that of their libraries (macOS).

    torch brings one, and the second to start would end the process. Each keeps teams of its own.
    """
    if sys.platform == "darwin":
        os.environ.setdefault("KMP_DUPLICATE_LIB_OK", "TRUE")


def _is_this_kind(target: str) -> bool:
    return target.startswith(ARM) == platform.machine().startswith(ARM)


def _homebrew_openmp() -> str:
    return next((p for p in HOMEBREW_OPENMP if Path(p).is_dir()), HOMEBREW_OPENMP[0])


def version_of(compiler: Sequence[str], asked: str = "--version") -> str:
    """What a compiler says of itself.

    Raises:
        MachineFault: it cannot be run.
    """
    return _asked([*compiler, asked])


def _asked(command: list[str]) -> str:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        ).stdout
    except OSError as e:
        raise MachineFault(f"cannot run the compiler {command[0]}: {e.strerror}. Set CXX.") from e


def cpu() -> str:
    """Model and feature flags: a library for one CPU can be an illegal instruction on another."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        line for line in cpuinfo.splitlines() if line.startswith(("model", "flags", "Features"))
    )
