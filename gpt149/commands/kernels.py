"""`gpt149 kernels`: what there is to choose from."""

from __future__ import annotations

import importlib.util
import json
import shlex
from typing import Any

import click
from click.core import ParameterSource

from ..errors import Gpt149Error, InputError
from ..kernels import abi
from ..kernels.build import dry_run
from ..kernels.loaders.contract import ContractKernel
from ..kernels.loaders.tensors import TENSOR_KERNELS
from ..kernels.registry import BUILTINS, resolve
from ..system.limits import MOST_TOKENS, check_range


def run(shape: str, threads: int | None, as_json: bool) -> None:
    """Print every kernel's own description, or why it cannot run here.

    Raises:
        InputError: a shape that is not four positive whole numbers.
    """
    from ..system.threads import checked_threads

    args = _args(shape, checked_threads(threads))
    rows = [_describe(name, args) for name in BUILTINS]
    if as_json:
        click.echo(json.dumps({"shape": shape, "kernels": rows}))
        return
    click.echo(f"Extra memory for batch, heads, tokens, head_dim = {shape}, causal:\n")
    for row in rows:
        n_bytes = "" if row["bytes"] is None else f" = {row['bytes']:,} bytes"
        click.echo(f"{row['name']:<10} {row['isa'] or '-':<8} {row['idea'] or ''}")
        click.echo(
            f"{'':<19} extra memory {row['memory']}{n_bytes}" if row["memory"] else "", nl=False
        )
        click.echo(f"{'':<19} cannot run here: {row['unavailable']}" if row["unavailable"] else "")
        if row["features"]:
            click.echo(f"{'':<19} claims {', '.join(row['features'])}")


def show_flags(cpu: str, as_json: bool) -> None:
    """Print the command that would compile mine.cpp for a CPU, for the shell.

    Raises:
        InputError: it is none of the table, or a shape is given that no flag depends on.
    """
    source = click.get_current_context().get_parameter_source
    if any(source(name) is ParameterSource.COMMANDLINE for name in ("shape", "threads")):
        raise InputError("--flags goes with neither --shape nor --threads: flags are for any.")
    command = dry_run(cpu)
    click.echo(json.dumps({"cpu": cpu, "command": command}) if as_json else shlex.join(command))


def _describe(name: str, args: abi.Args) -> dict[str, Any]:
    names = ("idea", "memory", "bytes", "isa", "features", "unavailable")
    row: dict[str, Any] = dict.fromkeys(names)
    row["name"] = name
    if name in TENSOR_KERNELS and importlib.util.find_spec("torch") is None:
        return row | {"unavailable": "torch is not installed"}
    try:
        kernel = resolve(name)
    except Gpt149Error as e:
        return row | {"unavailable": str(e)}
    n_bytes = kernel.workspace_bytes(args) if isinstance(kernel, ContractKernel) else None
    return row | {
        "idea": kernel.idea,
        "memory": kernel.memory,
        "bytes": n_bytes,
        "isa": kernel.isa,
        "features": [str(f.name).lower() for f in abi.Feature if f & kernel.features],
    }


def _args(shape: str, n_threads: int) -> abi.Args:
    try:
        batch, n_head, n, head_dim = (int(word) for word in shape.split(","))
    except ValueError as e:
        raise InputError(f"--shape is '{shape}', and must be B,H,N,D.") from e
    for size in (batch, n_head, n, head_dim):
        check_range("a number of --shape", size, 1, MOST_TOKENS)
    return abi.shape_args(
        batch=batch,
        n_head=n_head,
        n_kv_head=n_head,
        head_dim=head_dim,
        n_q=n,
        n_kv=n,
        causal=True,
        scale=head_dim**-0.5,
        n_threads=n_threads,
    )
