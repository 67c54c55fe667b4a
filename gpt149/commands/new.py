"""`gpt149 new`: a kernel to start from."""

from __future__ import annotations

import re
from pathlib import Path

import click

from ..errors import Gpt149Error, InputError
from ..kernels import languages
from ..kernels.editor import write_compile_commands
from ..kernels.registry import COMPILED, CONTRACT_BUILTINS, CPP, check_path, locate, to_build
from ..system.paths import shipped
from ..system.words import in_shell

TEMPLATES = Path(__file__).resolve().parents[1] / "kernels" / "templates"
NAME = re.compile(r"[\w.-]+")


def run(path: Path, start: str | None, *, editor: bool = False) -> None:
    """Write a right, slow kernel, or a copy of a shipped one; says what to do next on stderr.

    editor: of a kernel that is there, write only the compilation database.

    Raises:
        InputError: the file is there already or cannot be written, or a kernel that has no source.
        MissingDependency: the database is asked for, and there is no compiler or no ninja.
    """
    if editor:
        if start is not None:
            raise InputError("--editor is for a file that is there, so --from does not go with it.")
        click.echo(f"wrote {write_compile_commands(path)}", err=True)
        return
    if path.suffix not in (*COMPILED, ".py"):
        endings = ", ".join(COMPILED)
        raise InputError(f"{path} is no name for a kernel: it must end in {endings} or .py.")
    if start is not None and (start not in CONTRACT_BUILTINS or path.suffix not in CPP):
        raise InputError(
            f"--from is '{start}', and must be one of {', '.join(CONTRACT_BUILTINS)}, for a .cpp "
            "file."
        )
    check_path(path)
    name = path.stem if NAME.fullmatch(path.stem) else "mine"
    text = _copy(start, name) if start else _template(path, name)
    data = text.encode("utf-8", errors="backslashreplace")  # a path may hold other bytes
    try:
        with path.open("xb") as f:
            f.write(data)
    except FileExistsError as e:
        raise InputError(f"{path} is there already, and is left as it is.") from e
    except OSError as e:
        raise InputError(f"cannot write {path}: {e.strerror}.") from e
    quoted = in_shell(path)
    click.echo(
        f"wrote {path}. Next:\n"
        f"  gpt149 check {quoted} --watch          right or wrong, and why, at every save\n"
        f'  gpt149 generate "ROMEO:" -a {quoted}   text through it',
        err=True,
    )
    if path.suffix == ".py":
        return
    ending = ".h" if path.suffix in (*CPP, languages.C) else path.suffix
    click.echo(f"The contract is {shipped('csrc') / f'gpt149{ending}'}", err=True)
    if path.suffix in (*CPP, languages.C):
        try:
            database = write_compile_commands(path)
            click.echo(f"Editors that read compile_commands.json find it: {database}", err=True)
        except Gpt149Error as e:  # the kernel is written all the same
            click.echo(f"Editors are not told how to compile it: {e}", err=True)


def _template(path: Path, name: str) -> str:
    kind = "kernel.cpp" if path.suffix in CPP else f"kernel{path.suffix}"
    if path.name.endswith("_numba.py"):
        kind = "kernel_numba.py"
    text = (TEMPLATES / kind).read_text(encoding="utf-8")
    words = {"NAME": name, "FILE": in_shell(path)}
    return re.sub("NAME|FILE", lambda found: words[found[0]], text)


def _copy(start: str, name: str) -> str:
    """A shipped kernel's source under another name; one of several files becomes one."""
    target = to_build(locate(start))
    assert target is not None
    text = _in_one_file(*target.sources)
    text = text.replace(f"// {start}: ", f"// {name}, from {start}: ", 1)
    return text.replace(f'GPT149_KERNEL({{"{start}"', f'GPT149_KERNEL({{"{name}"', 1)


def _in_one_file(main: Path, *parts: Path) -> str:
    """The main file, its own header in the place where it is included, the parts behind that."""
    text = main.read_text(encoding="utf-8")
    for header in sorted(main.parent.glob("*.h")):
        include = f'#include "{header.name}"\n'
        if include not in text:
            continue
        bodies = [part.read_text(encoding="utf-8").replace(include, "") for part in parts]
        shared = header.read_text(encoding="utf-8").replace("#pragma once\n\n", "")
        text = text.replace(include, "\n".join(["", shared, *bodies]))
    return text
