"""Where things are: the sources and weights that ship, and the user's cache directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .errors import InputError


def shipped(name: str) -> Path:
    """The folder `csrc` or `weights`: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent
    for parent in (package, package.parent):
        if (parent / name).is_dir():
            return parent / name
    return package / name


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
