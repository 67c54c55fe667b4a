"""`gpt149 profile`: why is this kernel slow."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ..bench.ceilings import ceilings
from ..bench.shapes import Shape, parse
from ..errors import InputError
from ..kernels.registry import locate
from ..profile import score, tuned
from ..profile.report import as_json, as_text
from ..profile.run import SHAPES, SQUARE_SHAPES, profile
from ..profile.tune import tune
from ..system.paths import shipped, write_whole
from ..system.terminal import status
from ..system.threads import checked_threads
from .terminal import show


def run(
    spec: str,
    shapes: Sequence[str],
    threads: int | None,
    *,
    report: Path | None,
    as_json_output: bool,
) -> int:
    """Watch a kernel on each shape, and print why it is slow; returns 0.

    Raises:
        Gpt149Error: a kernel or shape that cannot be asked about.
    """
    n_threads = checked_threads(threads)
    asked = _asked(spec, shapes, SHAPES)
    with status() as progress:
        progress("measuring what the machine can do, once")
        most = ceilings(n_threads)
        profiles = profile(spec, asked, most, progress)
    if report:
        from ..profile.html import as_html

        write_whole(report, as_html(spec, profiles).encode())
    if as_json_output:
        click.echo(json.dumps(as_json(spec, profiles)))
    else:
        show(as_text(spec, profiles))
    return 0


def run_tune(spec: str, shapes: Sequence[str], threads: int | None, *, as_json_output: bool) -> int:
    """Find the best tile and number of threads for each shape; 1 if it is wrong with some tile.

    Raises:
        Gpt149Error: a kernel or shape that cannot be asked about.
    """
    n_threads = checked_threads(threads)
    with status() as progress:
        found = [
            tune(spec, shape, n_threads, progress) for shape in _asked(spec, shapes, SHAPES[:1])
        ]
    if as_json_output:
        click.echo(json.dumps({"tuned": [tuned.as_json(spec, one) for one in found]}))
    else:
        show("\n\n".join(tuned.as_text(spec, one) for one in found))
    return 1 if any(entrant.wrong for one in found for entrant in one.out) else 0


def self_test(threads: int | None, *, as_json_output: bool) -> int:
    """Profile the slow kernels of the checkout's tests; 0 if no control is called slow, and every
    cause is among the first two.

    Raises:
        InputError: there are no such kernels.
    """
    known = score.entries(shipped("csrc").parent / "tests" / "slow_kernels")
    most = ceilings(checked_threads(threads))
    with click.progressbar(known, label="profiling", file=sys.stderr) as bar:
        scores = [score.score(entry, most) for entry in bar]
    if as_json_output:
        click.echo(json.dumps(score.as_json(scores)))
    else:
        show(score.as_text(scores))
    return 1 if any(s.alarm or s.missed for s in scores) else 0


def _asked(spec: str, shapes: Sequence[str], usual: Sequence[str]) -> list[Shape]:
    source = locate(spec)

    def knows(name: str) -> bool:
        shape = parse(name)
        square = shape.n_q == shape.n_kv or not source.square
        return square and not source.one_by_one(shape.causal)

    fitting = [name for name in usual if knows(name)] or SQUARE_SHAPES
    for name in shapes:
        if not knows(name):
            raise InputError(
                f"{spec} knows no calls such as {name}: they are made of many calls for it. A "
                f"shape for it is {fitting[0]}."
            )
    return [parse(name) for name in dict.fromkeys(shapes or fitting)]
