"""How far from float64 are right kernels and nearly right ones, in units of what rounding explains?

    python scripts/calibrate.py --seeds 2

Prints the table of docs/check.md: each kernel's largest error over the quick cases of `gpt149
check` and some larger ones (head_dim to 256, n_kv to 16,384); with --full over all of its cases.
Beyond SLACK of gpt149/check/judge.py, `check` says that a kernel is wrong. Without KERNELS: those
that ship, those of the tutorial and of tests/right_kernels, and the parts of tests/cs149/module.cpp
(without scores far from 0, whose exp overflows there as in the assignment). Behind them come two
copies of naive that are nearly right.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click

from gpt149.check.arena import Arena
from gpt149.check.cases import Case, full, quick, square
from gpt149.check.isolation import Child
from gpt149.check.judge import SLACK
from gpt149.check.observe import Bench, Memo, Observation
from gpt149.check.run import affordable
from gpt149.kernels.registry import BUILTINS, Source, compiled, locate
from gpt149.system.paths import shipped

HIGH = ("large", "low", "falling-far", "rising-far")
CHECKOUT = Path(__file__).resolve().parents[1]
# name: (what naive computes, what it computes instead)
NEARLY_RIGHT = {
    "slope_1e-5": ("j, dot)", "j, 1.00001f * dot)"),
    "exp_clamped_at_-20": ("std::exp(s[j] - m)", "std::exp(std::fmax(s[j] - m, -20.0f))"),
}


@dataclass
class Row:
    """ratio: the largest, met in `case` (with its seed). wrong: cases beyond the bound, of `n`."""

    kernel: str
    ratio: float = 0.0
    case: str = ""
    wrong: int = 0
    n: int = 0


def large() -> list[Case]:
    """What the quick cases have little of: wide heads and long rows."""
    return [
        square("dim-256", 130, d=256),
        square("dim-256-large", 65, d=256, inputs="large"),
        replace(square("kv-16384-decode", 16384, n_head=1, d=64), n_q=1),
        replace(square("kv-16384-dim-256", 16384, n_head=1, d=256), n_q=9),
        replace(square("kv-16384-falling", 16384, n_head=1, inputs="falling"), n_q=33),
        replace(square("kv-16384-rising", 16384, n_head=1, inputs="rising"), n_q=33),
    ]


def nearly_right(folder: Path) -> Iterator[str]:
    """Copies of naive in the folder, each with one change of NEARLY_RIGHT."""
    naive = (shipped("csrc") / "kernels" / "naive.cpp").read_text()
    for name, (right, wrong) in NEARLY_RIGHT.items():
        file = folder / f"{name}.cpp"
        file.write_text(naive.replace(right, wrong))
        yield str(file)


def everything() -> Iterator[str]:
    yield from BUILTINS
    for folder in ("examples/tutorial", "tests/right_kernels"):
        yield from map(str, sorted((CHECKOUT / folder).glob("*.cpp")))
    yield from (f"{CHECKOUT / 'tests' / 'cs149' / 'module.cpp'}:part{n}" for n in range(1, 5))


@click.command(help=__doc__)
@click.argument("kernels", nargs=-1)
@click.option("--seeds", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--full", "all_cases", is_flag=True, help="All cases of `gpt149 check --full`.")
def main(kernels: tuple[str, ...], seeds: int, all_cases: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asked = [*(kernels or everything()), *nearly_right(Path(folder))]
        rows = [Row(spec) for spec in asked]
        for seed in range(seeds):
            cases = [*(full() if all_cases else quick()), *large()]
            measure(rows, [replace(case, seed=seed) for case in cases])
    click.echo("| kernel | largest error / rounding | met in | cases beyond the bound |")
    click.echo("|---|---:|---|---:|")
    for row in rows:
        name = Path(row.kernel).name.removesuffix(".cpp")
        error = f"{row.ratio:,.1f}" if row.ratio < 1e6 else f"{row.ratio:.1e}"
        click.echo(f"| {name} | {error} | {row.case} | {row.wrong:,} of {row.n:,} |")
    click.echo(f"\nThe bound: {SLACK:g}. Seeds: {seeds}.")


def measure(rows: list[Row], cases: list[Case]) -> None:
    """Add one seed's cases to the rows; the float64 answers are worked out once."""
    memo: Memo = {}
    for row in rows:
        source = locate(row.kernel)
        asked = [case for case in cases if fits(case, source)]
        arena = Arena(asked)
        try:
            with Child(source, compiled(source), arena, timeout=60.0) as child:
                bench = Bench(child, arena, memo)
                for case in (case for case in asked if not case.needs & ~child.features):
                    count(row, bench.observe(case))
        finally:
            arena.close()


def fits(case: Case, source: Source) -> bool:
    """Whether a right kernel of the kind is right here, and soon done."""
    return affordable(source, case) and (source.loader != "cs149" or case.inputs not in HIGH)


def count(row: Row, o: Observation) -> None:
    row.n += 1
    row.wrong += not o.passed
    if o.verdict is not None and not o.verdict.ratio <= row.ratio:
        row.ratio, row.case = o.verdict.ratio, f"{o.case.name}, seed {o.case.seed}"


if __name__ == "__main__":
    main()
