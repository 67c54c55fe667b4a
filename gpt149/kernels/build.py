"""Sources become a cached shared library, compiled on first use.

An entry of the cache is a folder named after a digest of the sources, their paths, the commands,
the compiler's version and the CPU. It holds the library, the build.ninja that made it, and a
manifest of the headers that the sources included (the compiler lists them) with their digests:
while those match, the library is current. Ninja compiles side by side what is not; it is never
asked what is current, for it would go by time stamps.

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
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ..errors import BuildError, InputError
from ..system.paths import cache_dir, shipped
from . import languages, ninja
from .compiler import (
    CPUS,
    LIBRARY_FLAGS,
    LINES,
    SANITIZER_FLAGS,
    bear_two_openmps,
    compiler_for,
    compiles_for,
    cpu,
    flags_of,
    hint,
    is_clang,
    machine_libraries,
    must_run_here,
    version_of,
    wanted_cpu,
)
from .ninja import Product

log = logging.getLogger(__name__)

# What reading a manifest raises that something else has written, or damaged.
UNREADABLE = (OSError, KeyError, TypeError, ValueError, RecursionError)


@dataclass(frozen=True)
class Target:
    """What to build: a shared library, or a program.

    sources: of C++ and C, or one of Rust or Zig; the first gives it its name. flags: more of the
    compiler's arguments. libraries: what is linked: -l and -L, object files. sanitizers: as for
    -fsanitize, such as "address,undefined". lines: addresses of Rust and Zig tell their lines, as
    others' always do. subject: the user's file, for messages, where it is not the first source.
    program: it has a main.
    """

    sources: tuple[Path, ...]
    flags: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    sanitizers: str = ""
    lines: bool = False
    subject: Path | None = None
    program: bool = False

    @property
    def name(self) -> Path:
        """The file that messages are about."""
        return self.subject or self.sources[0]


def build(source: Path) -> Path:
    """The shared library of one source file; see `build_all`."""
    return build_all([Target((source,))])[0]


def build_all(targets: Sequence[Target], *, elsewhere: bool = False) -> list[Path]:
    """The library or program of each, compiled side by side where no current one is cached.

    elsewhere: they may be for another machine, if CXX compiles for one.

    Raises:
        InputError: a source cannot be read, the cache directory cannot be written, or this machine
            could not run what CXX makes.
        MissingDependency: there is no such compiler, or no ninja.
        BuildError: the compiler fails; its whole output is in the message.
    """
    started = time.time_ns()
    if not elsewhere:
        must_run_here(compiles_for())
        bear_two_openmps()
    entries = _entries(targets)
    with _in_cache():
        built = [_current(entry) for entry in entries]
    stale = {e: t for e, t, b in zip(entries, targets, built, strict=True) if b is None}
    if stale:
        with ExitStack() as locks:
            for entry in sorted(stale):  # in one order, so that nobody waits in a circle
                locks.enter_context(locked(entry))
            made = _compile({e: t for e, t in stale.items() if not _current(e)}, started)
            built = [b or made.get(e) or _current(e) for e, b in zip(entries, built, strict=True)]
    return [path for path in built if path is not None]


def around(tool: str, target: Target, sanitizers: str = "") -> Target:
    """The program csrc/tools/TOOL.cpp, `runner` or `judge`, with a kernel's target of C++ or C."""
    return replace(
        target,
        sources=(shipped("csrc") / "tools" / f"{tool}.cpp", *target.sources),
        flags=(*target.flags, "-w"),  # what it warns of was told when the library was built
        sanitizers=sanitizers,
        subject=target.name,
        program=True,
    )


def cached(target: Target) -> Path | None:
    """What `build_all` would give at once; None if it would have to compile."""
    try:
        return _current(_entries([target])[0])
    except OSError:
        return None


def made_of(library: Path) -> list[Path]:
    """The sources and every header that a library was made of; empty if not recorded."""
    try:
        manifest = json.loads((library.parent / "manifest.json").read_text())
        return [Path(path) for path in manifest["headers"]]
    except UNREADABLE:
        return []


def commands(target: Target) -> str:
    """The compilation database of a target: a JSON list, an entry a source. Compiles nothing.

    Raises:
        InputError: the cache directory cannot be written.
        MissingDependency: there is no C++ compiler, or no ninja.
    """
    [entry] = _entries([target])
    with locked(entry):
        product = _product(entry, target)
        ninja.write(product, entry.parent)
        return ninja.commands(product, entry.parent)


def dry_run(cpu: str) -> list[str]:
    """The command that would make mine.so of mine.cpp for one of CPUS, word by word. Runs nothing.

    Raises:
        InputError: there is no such CPU in the table.
    """
    if cpu not in CPUS:
        raise InputError(f"there is no CPU '{cpu}' in the table: {', '.join(CPUS)}.")
    machine = CPUS[cpu][0]
    compiler = "c++" if "apple" in machine else f"{machine}-g++"
    flags = (*flags_of("apple" in machine, machine, cpu), *LIBRARY_FLAGS, "-shared")
    libraries = machine_libraries(machine)
    return [compiler, *flags, _include(), "mine.cpp", "-o", "mine.so", *libraries]


def compile_command(target: Target) -> tuple[str, ...]:
    """The C++ compiler with its words for the first source; () for Rust and Zig."""
    return next(iter(_product(Path(), target).compile), ())


def _entries(targets: Sequence[Target]) -> list[Path]:
    """The folders of the cache for these targets."""
    ask = cache(version_of)  # each compiler once
    entries = []
    for target in targets:
        product = _product(Path(), target)
        try:
            contents = [source.read_bytes() for source in target.sources]
        except OSError as e:
            raise InputError(f"cannot read the kernel source {e.filename}: {e.strerror}.") from e
        paths = [str(source.resolve()) for source in target.sources]
        words = (word for command in (*product.compile, product.link) for word in command)
        asked = (*paths, *words, *product.libraries)
        key = digest(*contents, *asked, _version(target, ask), cpu())
        stem = re.sub(r"\W", "_", target.sources[0].stem, flags=re.ASCII)
        entries.append(cache_dir() / "kernels" / f"{stem}-{key[:20]}")
    return entries


def _version(target: Target, ask: Callable[..., str]) -> str:
    """What the target's compiler says of itself; ask: `version_of`."""
    source = target.sources[0]
    if compiler := languages.compiler_of(source):
        return ask(tuple(compiler), languages.version_words(source))
    return ask(tuple(compiler_for(target.sanitizers)))


def _product(entry: Path, target: Target) -> Product:
    product = Product(entry.name, target.sources, (), ())
    source, output, depfile = target.sources[0], product.output, product.depfiles[0]
    if command := languages.whole(source, output, depfile, lines=target.lines):
        return replace(product, link=command)
    compiler, machine = compiler_for(target.sanitizers), compiles_for()
    flags = [*compiler, *flags_of(is_clang(tuple(compiler)), machine, wanted_cpu()), _include()]
    if target.sanitizers:
        flags += [*SANITIZER_FLAGS, f"-fsanitize={target.sanitizers}"]
    else:
        flags += [*LIBRARY_FLAGS, LINES]
    words = (*flags, *target.flags)
    compiling = tuple(
        languages.as_c(words) if source.suffix == languages.C else words
        for source in target.sources
    )
    linking = tuple(flags if target.program else [*flags, "-shared"])
    libraries = (*target.libraries, *machine_libraries(machine))
    return Product(entry.name, target.sources, compiling, linking, libraries)


def _include() -> str:
    return f"-I{shipped('csrc')}"


def _compile(targets: dict[Path, Target], started: int) -> dict[Path, Path]:
    """Run the compiler for all entries; put libraries, then manifests, in place.

    A file that was saved since `started` (ns) may not be what was compiled: then no manifest is
    written, and the next call compiles again.
    """
    if not targets:
        return {}
    products = {entry: _product(entry, target) for entry, target in targets.items()}
    for entry, product in products.items():
        for found in entry.iterdir():
            if found.is_dir():  # in the place of a file of ours
                shutil.rmtree(found)
            elif ".tmp" in found.name:  # of a compilation that was killed
                found.unlink()
        ninja.write(product, entry.parent)
        log.info("compiling %s", targets[entry].name.name)
    outcome = ninja.run(list(products.values()), next(iter(products)).parent)
    if outcome.warnings:
        log.warning("%s", outcome.warnings)
    made = {
        entry: _keep(entry, product, started)
        for entry, product in products.items()
        if product.folder not in outcome.failures
    }
    for entry, target in targets.items():
        if failure := outcome.failures.get(entry.name):
            if os.strerror(errno.ENOSPC) in failure.output:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            message = f"{target.name} does not compile.\n$ {failure.command}\n{failure.output}\n"
            raise BuildError(message + hint(failure.output), output=failure.output)
    return made


def _keep(entry: Path, product: Product, started: int) -> Path:
    """Put what was made in its place; see `_compile`."""
    folder = entry.parent
    shutil.rmtree(entry / languages.ZIG_CACHE, ignore_errors=True)
    source = product.sources[0]
    zig = source.suffix == languages.ZIG
    dependencies = dict.fromkeys(
        languages.read_by_zig(source)
        if zig
        else [path for file in product.depfiles for path in _dependencies(folder / file)]
    )
    headers = {str(path): file_digest(path) for path in dependencies}
    # Named after its inputs: dlopen would answer a known path with the library already loaded.
    current = entry / f"{digest(*headers.values())[:20]}.so"
    os.replace(folder / product.output, current)
    for name in (*product.objects, *product.depfiles):
        (folder / name).unlink(missing_ok=True)
    if any(path.stat().st_mtime_ns >= started for path in dependencies):
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
    except UNREADABLE:
        return None
    return library if unchanged else None


@contextmanager
def _in_cache() -> Iterator[None]:
    try:
        yield
    except OSError as e:
        where = cache_dir() / "kernels"
        what = f" ({e.filename})" if e.filename and Path(e.filename) != where else ""
        raise InputError(
            f"cannot write the kernel cache {where}: {e.strerror or e}{what}. "
            "Point GPT149_CACHE to a directory that can be written."
        ) from e


@contextmanager
def locked(entry: Path) -> Iterator[None]:
    """Make a folder of the cache, and keep other processes out of it meanwhile.

    Raises:
        InputError: it, or what is written meanwhile, cannot be written.
    """
    with _in_cache():
        entry.mkdir(parents=True, exist_ok=True)
        with (entry / "lock").open("w") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            yield


def _dependencies(depfile: Path) -> list[Path]:
    r"""The files in a make rule `target: source header header \\`, in make's own escapes."""
    rule = os.fsdecode(depfile.read_bytes()).replace("\\\n", " ").partition("\n")[0]
    prerequisites = rule.partition(":")[2]
    words = re.findall(r"(?:\\[ #]|\S)+", prerequisites)
    return [Path(re.sub(r"\\([ #])", r"\1", word).replace("$$", "$")) for word in words]


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
