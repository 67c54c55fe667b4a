"""`gpt149 bench`: how fast, against torch, against the machine, against another day."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..bench import attention, generation, tables
from ..bench.ceilings import ceilings
from ..bench.results import Results, describe_machine, dumps, load
from ..bench.shapes import SHAPES, SWEEP, parse
from ..errors import InputError
from ..kernels.registry import BUILTINS
from ..system.paths import write_whole
from ..system.threads import checked_threads
from .terminal import show

FORMATS: dict[str, Callable[[Results], str]] = {
    "table": tables.as_text,
    "md": lambda results: tables.as_text(results, markdown=True),
    "csv": tables.as_csv,
    "json": tables.as_json,
    "jsonl": tables.as_jsonl,
}
MOST_LENGTH = 1 << 20


@dataclass(frozen=True)
class Request:
    """The options of the command, as `gpt149 bench --help` lists them."""

    kernels: tuple[str, ...]
    model: str
    prompts: str
    n: int
    depths: str
    shapes: tuple[str, ...]
    attention_only: bool
    generation_only: bool
    seconds: float
    threads: int | None
    remeasure: bool
    output_format: str
    save: Path | None
    against: Path | None
    threshold: float
    report: Path | None


def run(request: Request) -> int:
    """Measure and print; 1 if a kernel is rejected or slower than before, 130 after Ctrl-C.

    Raises:
        Gpt149Error: see `errors`.
    """
    r = request
    specs = list(dict.fromkeys(r.kernels or BUILTINS))
    prompts, depths = _numbers("-p", r.prompts, 1), _numbers("-d", r.depths, 0)
    if r.n < 0 or not 0 < r.seconds < math.inf:
        raise InputError(f"-n is {r.n} and --seconds {r.seconds:g}; neither can be that.")
    if r.attention_only and r.generation_only:
        raise InputError("--attention-only and --generation-only leave nothing to measure.")
    if r.report:
        from ..bench.html import need_matplotlib

        need_matplotlib("--report")
    before = load(r.against) if r.against else None
    n_threads = checked_threads(r.threads)
    machine = describe_machine(n_threads, r.model)
    if before:
        _same_terms(machine, before.machine, r.against)
    results = Results(machine, ceilings(n_threads, again=r.remeasure))
    asked = generation.tests(prompts, r.n, depths)
    with_attention, with_generation = not r.generation_only, not r.attention_only
    names = (r.shapes or SHAPES) + (SWEEP if r.report else ())
    shapes = [parse(name) for name in dict.fromkeys(names)] if with_attention else []
    share = r.seconds / (with_attention + with_generation)
    length = len(shapes) + (len(asked) if with_generation else 0)
    try:
        with click.progressbar(length=length, label="measuring", file=sys.stderr) as bar:
            step = lambda: bar.update(1)  # noqa: E731
            if with_generation:
                generation.measure(
                    *(specs, asked, r.model, n_threads),
                    seconds=share, keep=results.rows.append, progress=step,
                )  # fmt: skip
            if with_attention:
                attention.measure(
                    *(specs, shapes, results.ceilings),
                    seconds=share, raise_ceilings=results.raise_ceilings,
                    keep=results.rows.append, progress=step,
                )  # fmt: skip
    except KeyboardInterrupt:
        results.interrupted = True
    return _tell(request, results, before)


def _same_terms(now: dict[str, Any], before: dict[str, Any], against: Path | None) -> None:
    """Raise InputError where a comparison would say nothing of the kernels."""
    for what, option in (("model", "-m"), ("threads", "--threads")):
        if before.get(what) != now[what]:
            raise InputError(
                f"{against} was measured with {option} {before.get(what)}, and this would be with "
                f"{option} {now[what]}: give the same, or save another run to compare with."
            )


def _tell(request: Request, results: Results, before: Results | None) -> int:
    """Print and write what was found; the exit status."""
    r = request
    (show if r.output_format == "table" else click.echo)(FORMATS[r.output_format](results))
    if r.save:
        write_whole(r.save, f"{dumps(results)}\n".encode())
    if r.report:
        from ..bench.html import as_html

        write_whole(r.report, f"{as_html(results)}\n".encode())
    slower = False
    if before is not None:
        found = tables.changes(results, before, r.threshold)
        click.echo(f"\nAgainst {r.against}, {before.machine['time']}:", err=True)
        if not found and not results.interrupted:
            raise InputError(
                f"no row is in both runs, so nothing is compared: {r.against} has "
                f"{', '.join(f'{row.kernel} {row.test}' for row in before.rows[:4])}, ..."
            )
        show(tables.changes_as_text(found), err=True)
        slower = any(change.slower for change in found)
    if results.interrupted:
        return 130
    return 0 if results.right and not slower else 1


def _numbers(option: str, text: str, least: int) -> Sequence[int]:
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError as e:
        raise InputError(f"{option} is '{text}', and must be whole numbers: 128,512.") from e
    if any(not least <= n <= MOST_LENGTH for n in numbers):
        raise InputError(
            f"{option} is '{text}', and its numbers must be from {least} to {MOST_LENGTH:,}."
        )
    return numbers
