"""What every peer says of itself, and how peers are found without the packages that they need."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import click

MISSING = """
import sys
from importlib.util import find_spec
print(*(module for module in sys.argv[1:] if find_spec(module) is None))
"""


class Peer:
    """Something to measure gpt149 beside: a row of the tables.

    needs: the modules that it imports of packages, in its methods alone: none may be installed.
    python_in: the environment variable that names the Python which has them, for packages that
    want an environment of their own.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    python_in: ClassVar[str] = ""

    @classmethod
    def python(cls) -> str:
        """The Python to run it with."""
        return os.environ.get(cls.python_in) or sys.executable

    @classmethod
    def missing(cls) -> list[str]:
        """What it needs and is not installed."""
        if cls.python() == sys.executable:
            return [module for module in cls.needs if find_spec(module) is None]
        command = [cls.python(), "-c", MISSING, *cls.needs]
        try:
            return subprocess.check_output(command, text=True).split()
        except (OSError, subprocess.CalledProcessError) as e:
            raise click.UsageError(
                f"{cls.python_in} is {cls.python()!r}, which is no Python that runs: {e}."
            ) from e


def find(package: str) -> list[Any]:
    """The PEERS of each of the package's MODULES, which are subclasses of Peer."""
    return [
        peer
        for module in import_module(package).MODULES
        for peer in import_module(f"{package}.{module}").PEERS
    ]


def choose(peers: Mapping[str, type[Peer]], names: str | None, kind: str) -> list[str]:
    """The names, separated by semicolons, of peers that can run; None: every peer's.

    What is not installed is skipped by name, on stderr.

    Raises:
        click.UsageError: there is no peer of that name; `kind` is what peers are called then.
    """
    wanted = [name.strip() for name in names.split(";")] if names else list(peers)
    for name in wanted:
        if name not in peers:
            raise click.UsageError(f"unknown {kind} '{name}'. Known: {'; '.join(peers)}.")
    here = []
    for name in wanted:
        if missing := peers[name].missing():
            where = f" (see {peers[name].python_in})" if peers[name].python_in else ""
            click.echo(f"skipped {name}: {', '.join(missing)} is not installed{where}", err=True)
        else:
            here.append(name)
    return here
