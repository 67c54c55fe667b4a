"""`gpt149 profile`: why is this kernel slow."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from ..bench.ceilings import ceilings
from ..bench.shapes import parse
from ..errors import InputError
from ..kernels.registry import locate
from ..profile.report import as_json, as_text
from ..profile.run import SHAPES, SQUARE_SHAPES, profile
from ..system.terminal import status
from ..system.threads import checked_threads
from .terminal import show


def run(spec: str, shapes: Sequence[str], threads: int | None, as_json_output: bool) -> int:
    """Watch a kernel on each shape, and print why it is slow; returns 0.

    Raises:
        Gpt149Error: a kernel or shape that cannot be asked about.
    """
    n_threads = checked_threads(threads)
    square = locate(spec).loader == "cs149"
    asked = [parse(name) for name in dict.fromkeys(shapes or (SQUARE_SHAPES if square else SHAPES))]
    for shape in asked:
        if shape.case(1).needs:
            raise InputError(
                f"{shape.name} is more than plain attention in float32, which is all that profile "
                "watches. `gpt149 bench -s` times such shapes."
            )
        if square and (shape.causal or shape.n_q != shape.n_kv):
            raise InputError(
                f"{spec} knows square calls without a mask alone, and {shape.name} is none: a "
                f"shape for it is {SQUARE_SHAPES[0]}."
            )
    with status() as progress:
        progress("measuring what the machine can do, once")
        most = ceilings(n_threads)
        profiles = profile(spec, asked, most, progress)
    if as_json_output:
        click.echo(json.dumps(as_json(spec, profiles)))
    else:
        show(as_text(spec, profiles))
    return 0
