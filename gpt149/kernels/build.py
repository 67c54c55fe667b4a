"""A C++ source file becomes a cached shared library, compiled on first use.

An entry of the cache is a folder named after a digest of the source, its path, the command, the
compiler's version and the CPU. It holds the library and a manifest of the headers that the source
included (the compiler lists them) with their digests: while those match, the library is current.
One file is one compiler run, so no build system stands between.

Two processes that want the same library meet at an flock, which the operating system releases even
when its holder is killed; results appear by rename, so a library is whole or absent.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import BuildError, InputError, MissingDependency
from ..system.paths import cache_dir, shipped

log = logging.getLogger(__name__)

# No -ffast-math: it lets the compiler assume that there are no NaNs and infinities.
FLAGS = ("-std=c++17", "-Wall", "-Wextra")
LIBRARY_FLAGS = ("-O3", "-fPIC", "-shared")
SANITIZER_FLAGS = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
TARGET = "library"  # of the rule in the compiler's dependency file
HOMEBREW_OPENMP = ("/opt/homebrew/opt/libomp", "/usr/local/opt/libomp")


def build(source: Path, extra: Sequence[str] = (), *, subject: Path | None = None) -> Path:
    """The shared library of a C++ source file, compiled unless a current one is cached.

    `GPT149_MARCH` replaces `native` in -march=native, for tests of other instruction sets.

    Args:
        source: the file that the compiler is given.
        extra: more of the compiler's arguments; part of the cache's key.
        subject: the user's file, for messages, where source is an adapter around it.

    Raises:
        InputError: the source cannot be read, or the cache directory cannot be written.
        MissingDependency: there is no C++ compiler.
        BuildError: the compiler fails; its whole output is in the message.
    """
    return _build(source, (*LIBRARY_FLAGS, *extra), subject or source)


def build_runner(source: Path, sanitizers: str, extra: Sequence[str] = ()) -> Path:
    """The program csrc/tools/runner.cpp around a kernel's source, with sanitizers compiled in.

    sanitizers: as for -fsanitize, such as "address,undefined". Raises as `build` does.
    """
    if not source.is_file():
        raise InputError(f"cannot read the kernel source {source}.")
    kernel = f'-DKERNEL_FILE="{source.resolve()}"'
    flags = (*SANITIZER_FLAGS, f"-fsanitize={sanitizers}", kernel, *extra)
    return _build(shipped("csrc") / "tools" / "runner.cpp", flags, source)


def cached(source: Path, extra: Sequence[str]) -> Path | None:
    """What `build` would give at once; None if it would have to compile."""
    try:
        return _current(_entry(source, _command(source, (*LIBRARY_FLAGS, *extra))))
    except OSError:
        return None


def made_of(library: Path) -> list[Path]:
    """The source and every header that a library of `build` was made of; empty if not recorded."""
    try:
        manifest = json.loads((library.parent / "manifest.json").read_text())
    except (OSError, ValueError):
        return []
    return [Path(path) for path in manifest["headers"]]


def _build(source: Path, flags: tuple[str, ...], subject: Path) -> Path:
    started = time.time_ns()
    command = _command(source, flags)
    entry = _entry(source, command)
    with _in_cache(entry):
        if library := _current(entry):
            return library
    with locked(entry):
        return _current(entry) or _compile(command, source, subject, entry, started)


def _command(source: Path, flags: tuple[str, ...]) -> list[str]:
    # What is linked (in the flags) comes behind what needs it.
    include = f"-I{shipped('csrc')}"
    return [*find_compiler(), *FLAGS, *_machine_flags(), include, str(source.resolve()), *flags]


def _entry(source: Path, command: list[str]) -> Path:
    """The folder of the cache for this command on this source."""
    try:
        content = source.read_bytes()
    except OSError as e:
        raise InputError(f"cannot read the kernel source {source}: {e.strerror}.") from e
    key = digest(content, *command, version_of(find_compiler()), _cpu())
    return cache_dir() / "kernels" / f"{source.stem}-{key[:20]}"


def find_compiler() -> list[str]:
    """$CXX (which may carry flags), or the first of c++, g++ and clang++ on the PATH.

    Raises:
        MissingDependency: there is none.
    """
    chosen = shlex.split(os.environ.get("CXX", ""))
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


def _machine_flags() -> list[str]:
    """The instruction set and OpenMP, as this platform's compiler spells them."""
    arm = platform.machine() in ("arm64", "aarch64")
    flags = [f"-m{'cpu' if arm else 'arch'}={os.environ.get('GPT149_MARCH', 'native')}"]
    if sys.platform != "darwin":
        return [*flags, "-fopenmp"]
    prefix = next((p for p in HOMEBREW_OPENMP if Path(p).is_dir()), HOMEBREW_OPENMP[0])
    return [*flags, "-Xpreprocessor", "-fopenmp", f"-I{prefix}/include", f"-L{prefix}/lib", "-lomp"]


def _compile(command: list[str], source: Path, subject: Path, entry: Path, started: int) -> Path:
    """Run the compiler; put the library, then the manifest that makes it current, in place.

    A file that was saved since `started` (ns) may not be what was compiled: then no manifest is
    written, and the next call compiles again.
    """
    for stale in entry.glob("*.tmp*"):  # of a compilation that was killed
        stale.unlink()
    library, depfile = entry / "library.tmp", entry / "depfile.tmp"
    command = [*command, "-MMD", "-MF", str(depfile), "-MT", TARGET, "-o", str(library)]
    log.info("compiling %s", subject.name)
    done = _run(command)
    if done.returncode and os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if done.returncode or not library.exists():
        message = f"{subject} does not compile.\n$ {shlex.join(command)}\n{done.stderr}"
        raise BuildError(message, output=done.stderr)
    if done.stderr:
        log.warning("%s", done.stderr.rstrip())
    dependencies = _dependencies(depfile)
    headers = {str(path): file_digest(path) for path in dependencies}
    # Named after its inputs: dlopen would answer a known path with the library already loaded.
    current = entry / f"{digest(*headers.values())[:20]}.so"
    os.replace(library, current)
    depfile.unlink()
    if any(path.stat().st_mtime_ns >= started for path in (source, *dependencies)):
        return current
    manifest = entry / "manifest.json.tmp"
    kept = {"library": current.name, "digest": file_digest(current), "headers": headers}
    manifest.write_text(json.dumps(kept))
    os.replace(manifest, entry / "manifest.json")
    for old in entry.glob("*.so"):
        if old != current:
            old.unlink()
    return current


def _current(entry: Path) -> Path | None:
    """The entry's library, if it is there, whole, and none of its headers has changed."""
    try:
        manifest = json.loads((entry / "manifest.json").read_text())
        library: Path = entry / manifest["library"]
        files = {library: manifest["digest"], **manifest["headers"]}
        unchanged = all(file_digest(Path(p)) == d for p, d in files.items())
    except (FileNotFoundError, KeyError, ValueError):
        return None
    return library if unchanged else None


@contextmanager
def _in_cache(entry: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise InputError(
            f"cannot write the kernel cache {entry.parent}: {e.strerror or e}. "
            "Point GPT149_CACHE to a directory that can be written."
        ) from e


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Make a folder of the cache, and keep other processes out of it meanwhile.

    Raises:
        InputError: it, or what is written meanwhile, cannot be written.
    """
    with _in_cache(entry):
        entry.mkdir(parents=True, exist_ok=True)
        with (entry / "lock").open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield


def _dependencies(depfile: Path) -> list[Path]:
    r"""The headers in a make rule `target: source header header \\`, in make's own escapes."""
    prerequisites = (
        os.fsdecode(depfile.read_bytes()).removeprefix(f"{TARGET}:").replace("\\\n", " ")
    )
    words = re.findall(r"(?:\\[ #]|\S)+", prerequisites)
    unescaped = [re.sub(r"\\([ #])", r"\1", word).replace("$$", "$") for word in words]
    return [Path(word) for word in unescaped[1:]]


def version_of(compiler: list[str]) -> str:
    """What a compiler says of itself."""
    return _run([*compiler, "--version"]).stdout


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    english = {**os.environ, "LC_ALL": "C"}  # its messages are read, not only shown
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=english
        )
    except OSError as e:
        raise BuildError(f"cannot run the compiler {command[0]}: {e.strerror}. Set CXX.") from e


def _cpu() -> str:
    """Model and feature flags: a library for one CPU can be an illegal instruction on another."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        line for line in cpuinfo.splitlines() if line.startswith(("model", "flags", "Features"))
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest(*parts: str | bytes) -> str:
    """SHA-256 of several texts; where one ends matters."""
    sha = hashlib.sha256()
    for part in parts:
        data = os.fsencode(part) if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()
