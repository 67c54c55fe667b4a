"""Where things are: the sources and weights that ship, the user's cache; and whole files."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from ..errors import InputError

SYSTEM = ("/usr", "/opt", "/Library", "/Applications", "/rustc")
STANDARD = {"rustlib", "ziglang", "std"}  # folders of Rust's and Zig's own sources


def shipped(name: str) -> Path:
    """The folder `csrc` or `weights`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for parent in (package, package.parent):
        if (parent / name).is_dir():
            return parent / name
    return package / name


def is_theirs(file: Path, source: Path) -> bool:
    """Whether a file that a source includes is its author's: not ours, nor the system's."""
    file, source = file.resolve(), source.resolve()
    if file == source or file.parent == source.parent:
        return True
    if STANDARD & set(file.parts):
        return False
    ours = shipped("csrc").resolve()
    return file.is_absolute() and not any(file.is_relative_to(place) for place in (ours, *SYSTEM))


def cache_dir() -> Path:
    """What `GPT149_CACHE` names, or the platform's cache directory. Not created here."""
    try:
        if chosen := os.environ.get("GPT149_CACHE"):
            return Path(chosen).expanduser()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "gpt149"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpt149"
    except RuntimeError as e:  # pathlib's, where there is no such home directory
        raise InputError(
            "there is no home directory for the kernel cache. Point GPT149_CACHE to a directory."
        ) from e


def check_writable(path: Path) -> None:
    """Raise InputError where `write_whole` could not write a file, before work is done for it."""
    path = path.resolve()
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}.")
    if path.exists() and not path.is_file():
        return
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as e:
        raise InputError(f"cannot write {path}: {e.strerror}.") from e


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: under another name beside it, then renamed.

    A symbolic link stays one, and what is no file (/dev/stdout, a pipe) is written to.

    Raises:
        InputError: it cannot be written.
    """
    path = path.resolve()
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as e:
        raise InputError(f"cannot write {path}: {e.strerror}.") from e
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
