"""What is to be compiled, as a build.ninja says it; and ninja, which compiles it side by side."""

from __future__ import annotations

import importlib.util
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import InputError, MissingDependency
from ..system.child import limit, with_parent
from ..system.terminal import status
from .compiler import MOST_BYTES, MOST_SECONDS

FILE = "build.ninja"
STATUS = "\x1e"  # begins what ninja says of a finished command
MOST_SAID = 1 << 20  # characters of a command's own words that are kept


@dataclass(frozen=True)
class Product:
    """A library or program, and what it is made of.

    folder: where it is put, from the folder that ninja runs in, in plain letters. compile: a
    command for each source, link: one for what they make, up to what they read and write;
    libraries: what is linked in. Without compile, link is the whole command, of its one source.
    """

    folder: str
    sources: tuple[Path, ...]
    compile: tuple[tuple[str, ...], ...]
    link: tuple[str, ...]
    libraries: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        return f"{self.folder}/output.tmp"

    @property
    def objects(self) -> list[str]:
        return [f"{self.folder}/{i}.tmp.o" for i in range(len(self.compile))]

    @property
    def depfiles(self) -> list[str]:
        return [f"{name}.d" for name in self.objects or [self.output]]


@dataclass(frozen=True)
class Failure:
    """A command that failed, as ninja ran it, and all that it said."""

    command: str
    output: str


@dataclass(frozen=True)
class Outcome:
    """failures: by the product's folder; all others are there. warnings: what compilers said."""

    failures: dict[str, Failure]
    warnings: str


def write(product: Product, folder: Path) -> None:
    """Write the build.ninja of a product, for `ninja -f FOLDER/build.ninja` where ninja runs."""
    making = f"{_shell(product.link)} $in -o $out {_shell(product.libraries)}"
    lines = [
        f"builddir = {product.folder}",
        "rule object",
        "  command = $words -MMD -MF $out.d -MT $out -c $in -o $out",
        "  depfile = $out.d",
        "  description = $name",
        "rule link",
        f"  command = {making if product.compile else _shell(product.link)}",
        "  description = $name",
    ]
    for words, source, name in zip(product.compile, product.sources, product.objects, strict=False):
        lines += [
            f"build {name}: object $source",
            f"  source = {_path(source)}",
            f"  words = {_shell(words)}",
            f"  name = {_escaped(source.name)}",
        ]
    made_of = " ".join(product.objects) or "$source"
    lines += [
        f"build {product.output}: link {made_of}",
        f"  source = {_path(product.sources[0])}",
        f"  name = {_escaped(product.sources[0].stem)}",
    ]
    # A path may hold bytes that are no UTF-8.
    (folder / product.folder / FILE).write_bytes(os.fsencode("\n".join(lines) + "\n"))


def run(products: Sequence[Product], folder: Path) -> Outcome:
    """Make the products, whose build.ninja files stand, side by side.

    Args:
        products: at least one.
        folder: where ninja runs.

    Raises:
        MissingDependency: there is no ninja.
    """
    home = products[0].folder  # locked by the caller: nobody else's ninja writes there
    file = f"{home}/{FILE}"
    if len(products) > 1:
        file = f"{home}/all.ninja"
        includes = [f"subninja {product.folder}/{FILE}" for product in products]
        (folder / file).write_text("\n".join([f"builddir = {home}", *includes]) + "\n")
    jobs = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    command = [find_ninja(), "-f", file, "-k", "0", "-j", str(jobs)]
    # Each compiler is in a group of its own, which ninja ends when it is asked to end, not when it
    # is killed: so it is out of our group, and is asked even when we are killed.
    command = with_parent(command, signal.SIGTERM)
    # A compiler's messages are read, not only shown: hence English.
    environment = {**os.environ, "LC_ALL": "C", "NINJA_STATUS": f"{STATUS}%f of %t: "}
    said = ""
    with (
        status() as tell,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        limit(process.pid, resource.RLIMIT_CPU, MOST_SECONDS)  # compilers inherit them
        limit(process.pid, resource.RLIMIT_DATA, MOST_BYTES)
        tell("compiling")
        try:
            size = 0
            for text in iter(partial(process.stdout.readline, MOST_SAID), ""):
                size = 0 if text.startswith(STATUS) else size + len(text)
                said += text if size <= MOST_SAID else ""
                if text.startswith(STATUS):
                    tell(f"compiled {text[len(STATUS) :].rstrip()}")
        except BaseException:  # Ctrl-C: no compiler stays behind
            process.terminate()
            raise
    return _outcome(products, said, folder)


def _outcome(products: Sequence[Product], said: str, folder: Path) -> Outcome:
    """From what ninja said: a block a command, of which a failed one begins with FAILED."""
    failures: dict[str, Failure] = {}
    warnings = ""
    for block in said.split(STATUS)[1:]:
        lines = [line for line in block.split("\n")[1:] if not line.startswith("ninja: ")]
        if lines and lines[0].startswith("FAILED: "):
            output = lines[0].split()[-1]
            failures.setdefault(
                output.partition("/")[0], Failure(lines[1], "\n".join(lines[2:]).strip("\n"))
            )
        else:
            warnings += "\n".join(lines)
    for product in products:
        if product.folder not in failures and not (folder / product.output).exists():
            failures[product.folder] = Failure("ninja", said.replace(STATUS, ""))
    return Outcome(failures, warnings.strip("\n"))


def commands(product: Product, folder: Path) -> str:
    """The compilation database (compile_commands.json) of a product whose build.ninja stands.

    Raises:
        MissingDependency: there is no ninja.
    """
    command = [find_ninja(), "-f", f"{product.folder}/{FILE}", "-t", "compdb", "object"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="surrogateescape", check=True
    ).stdout


def find_ninja() -> str:
    """The program of the package `ninja`, or one on the PATH.

    Raises:
        MissingDependency: there is neither.
    """
    if importlib.util.find_spec("ninja"):
        from ninja import BIN_DIR

        if (path := Path(BIN_DIR) / "ninja").is_file():
            return str(path)
    if found := shutil.which("ninja"):
        return found
    raise MissingDependency(
        "no ninja found, which compiles kernels and the engine on first use. "
        "Install it with `pip install ninja`."
    )


def _shell(words: Sequence[str]) -> str:
    return _escaped(shlex.join(words))


def _path(path: Path) -> str:
    """A path as the value of a variable: there alone a | and a colon are nothing but letters.

    In a command, ninja quotes it for the shell itself.
    """
    return _escaped(str(path.resolve()))


def _escaped(text: str) -> str:
    if "\n" in text:
        raise InputError(f"{text!r} cannot be compiled: there is a line break in it.")
    return text.replace("$", "$$")
