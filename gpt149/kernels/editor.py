"""What an editor needs to know of a kernel's file: how it is compiled, and where gpt149.h is."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InputError
from ..system.files import exists, read_json
from ..system.paths import write_whole
from . import languages
from .build import Target, commands
from .loaders import cs149
from .registry import locate, to_build

NAME = "compile_commands.json"


def write_compile_commands(kernel: Path) -> Path:
    """Write the compilation database beside a kernel, which clangd and other editors look for.

    What a database that is there says of other files stays.

    Raises:
        InputError: there is no such kernel, it is not compiled, or the file cannot be written.
        MissingDependency: there is no C++ compiler, or no ninja.
    """
    source = locate(str(kernel.resolve()))
    module = source.loader == "cs149" and source.path
    target = cs149.seen_in_editor(module) if module else to_build(source)
    if source.loader == "function" and source.path:  # the file without what calls it
        target = Target((source.path,))
    if target is None or kernel.suffix in (languages.RUST, languages.ZIG):
        raise InputError(
            f"{kernel} is not compiled as C or C++, so there is nothing to tell an editor."
        )
    entries = json.loads(commands(target))
    database = kernel.resolve().parent / NAME
    files = {entry["file"] for entry in entries}
    others = [entry for entry in _entries(database) if entry.get("file") not in files]
    write_whole(database, (json.dumps([*others, *entries], indent=2) + "\n").encode())
    return database


def _entries(database: Path) -> list[dict[str, object]]:
    """What the database says so far."""
    if not exists(database):
        return []
    try:
        found: list[dict[str, object]] = read_json(database, wanted=list)
    except InputError as e:
        raise InputError(f"{e} It is no compilation database. Move it away, or mend it.") from e
    if not all(isinstance(entry, dict) for entry in found):
        raise InputError(f"{database} is no compilation database. Move it away, or mend it.")
    return found
