"""What every peer says of itself, and how peers are found without the packages that they need."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import click


class Peer:
    """Something to measure gpt149 beside: a row of the tables.

    needs: the modules that it imports of packages, in its methods alone: none may be installed.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()


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
        missing = [module for module in peers[name].needs if find_spec(module) is None]
        if missing:
            click.echo(f"skipped {name}: {', '.join(missing)} is not installed", err=True)
        else:
            here.append(name)
    return here
