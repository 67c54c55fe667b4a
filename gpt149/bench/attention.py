"""Attention alone: every kernel on every shape, in turn, each in a process of its own."""

from __future__ import annotations

import functools
import math
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..check.arena import Arena
from ..check.cases import Case
from ..check.isolation import Answer, Child
from ..check.judge import attend, judge
from ..check.run import affordable
from ..errors import InputError
from ..kernels.registry import compiled, locate
from ..system.words import duration
from .ceilings import Ceilings
from .pace import SAMPLE_SECONDS, Rest
from .results import Row

F32 = NDArray[np.float32]

LEAST_ROUNDS, MOST_ROUNDS = 3, 30
MOST_CALL_SECONDS = 0.5  # slower kernels are left out of a shape
MOST_REPEATS = 2000
MOST_SAMPLE_SECONDS = 0.2  # what takes longer had neighbours, and is repeated less
WARM_UP_SECONDS = 0.06
MOST_SET_BYTES = 96 << 20  # two sets of inputs above, three below
JUDGED_ROWS = 16
MOST_EXTENT = 1 << 20
ABOVE_CEILING = 1.1  # times the ceiling: no honest kernel gets there
TIMEOUT = 60.0


@dataclass(frozen=True)
class Shape:
    """A call to be timed: prefill where n_q = n_kv, decode where n_q = 1."""

    name: str
    n_head: int
    n_q: int
    n_kv: int
    head_dim: int
    causal: bool = True

    def case(self, n_threads: int) -> Case:
        """The call with a few sets of inputs, one a batch."""
        row = self.n_head * self.head_dim * 4
        n_sets = 2 if 2 * row * (self.n_q + self.n_kv) > MOST_SET_BYTES else 3
        case = Case(self.name, n_sets, self.n_head, self.n_head, self.n_q, self.n_kv, self.head_dim)
        return replace(case, causal=self.causal, n_threads=n_threads, calls="batches")

    @property
    def pairs(self) -> int:
        """Queries times the keys that they see, over all heads."""
        return self.case(1).pairs

    @property
    def flops(self) -> int:
        """Multiplications and additions of both products; those of the softmax do not count."""
        return self.case(1).flops

    @property
    def n_bytes(self) -> int:
        """q, k and v read once, out written once."""
        return 4 * self.n_head * self.head_dim * 2 * (self.n_q + self.n_kv)


def parse(text: str) -> Shape:
    """`HEADS,TOKENS,DIM`: a causal prefill; `:full` behind it: unmasked; TOKENS may be `N_QxN_KV`.

    Raises:
        InputError: it is something else.
    """
    found = re.fullmatch(r"(\d+),(?:(\d+)x)?(\d+),(\d+)(:full)?", text)
    if found is None:
        raise InputError(
            f"the shape '{text}' must be HEADS,TOKENS,DIM, such as 12,1024,64, 12,1024,64:full or "
            "12,1x4096,64."
        )
    n_head, n_kv, d = int(found[1]), int(found[3]), int(found[4])
    n_q = int(found[2] or n_kv)
    causal = found[5] is None
    if min(n_head, n_q, n_kv, d) < 1 or max(n_head, n_q, n_kv, d) > MOST_EXTENT:
        raise InputError(f"the numbers of '{text}' must be from 1 to {MOST_EXTENT}.")
    if causal and n_q > n_kv:
        raise InputError(f"'{text}' is causal, and must have at least as many keys as queries.")
    return Shape(text, n_head, n_q, n_kv, d, causal)


SHAPES = (
    "4,1024,32:full",  # the assignment's
    "4,1024,32",
    "12,128,64",  # GPT-2's
    "12,1024,64",
    "12,1024,64:full",
    "8,4096,64",
    "12,1x256,64",
    "12,1x1024,64",
    "12,1x4096,64",
    "12,1x16384,64",
)
SWEEP = tuple(f"4,{n},64" for n in (64, 128, 256, 512, 1024, 2048))  # for pictures over n


def measure(
    specs: Sequence[str],
    shapes: Sequence[Shape],
    ceilings: Ceilings,
    *,
    seconds: float,
    raise_ceilings: Callable[[], Ceilings],
    keep: Callable[[Row], None],
    progress: Callable[[], None],
) -> None:
    """Time the kernels on each shape, A B C A B C ..., for about `seconds` in all.

    Each finished row goes to `keep` at once. What passes the ceilings is believed only if
    `raise_ceilings` finds them too low. Raises as `locate` and `compiled` do.
    """
    raise_once = functools.cache(raise_ceilings)
    cases = [shape.case(ceilings.n_threads) for shape in shapes]
    sources = [locate(spec) for spec in specs]
    libraries = [compiled(source) for source in sources]
    arena = Arena(cases)
    with ExitStack() as stack:
        stack.callback(arena.close)
        children = [
            stack.enter_context(Child(source, library, arena, TIMEOUT))
            for source, library in zip(sources, libraries, strict=True)
        ]
        for shape, case in zip(shapes, cases, strict=True):
            race = _Race(shape, case, specs, children, arena, ceilings, raise_once)
            for row, source in zip(race.rows, sources, strict=True):
                if source.loader == "cs149" and not affordable(case):
                    row.skipped = "square: minutes a call"
            for row in race.run(seconds / len(shapes)):
                keep(row)
            ceilings = race.ceilings
            progress()


class _Race:
    """Kernels on one shape. A row leaves the race when something is wrong with it."""

    def __init__(
        self,
        shape: Shape,
        case: Case,
        specs: Sequence[str],
        children: Sequence[Child],
        arena: Arena,
        ceilings: Ceilings,
        raise_ceilings: Callable[[], Ceilings],
    ) -> None:
        self.shape, self.case, self.arena, self.ceilings = shape, case, arena, ceilings
        self.raise_ceilings = raise_ceilings
        self.children = children
        empty = Row(
            "attention",
            "",
            shape.name,
            work=shape.flops,
            n_bytes=shape.n_bytes,
            working_set=case.batch * shape.n_bytes,
        )
        self.rows = [replace(empty, kernel=spec, samples=[]) for spec in specs]
        self.repeats = [1] * len(specs)
        self.rest = Rest()
        self.inputs = [case.draw(i) for i in range(2)]

    def run(self, seconds: float) -> list[Row]:
        """Warm up, then go round until the time is over."""
        start, n_rounds = time.monotonic(), 0
        with self.rest:
            for i, row in enumerate(self.rows):
                if not row.skipped:
                    self._warm_up(i)
        while n_rounds < MOST_ROUNDS and (
            n_rounds < LEAST_ROUNDS or time.monotonic() - start < seconds
        ):
            for i, row in enumerate(self.rows):
                if not row.rejected and not row.skipped:
                    self._sample(i, n_rounds)
            n_rounds += 1
        return self.rows

    def _warm_up(self, i: int) -> None:
        """Find out how many calls make a sample, and who is too slow.

        More and more calls, until one takes no less: what the first take, while caches are cold
        and threads asleep, would make too short a sample.
        """
        row, batch = self.rows[i], self.case.batch
        one, before, repeat = math.inf, math.inf, batch
        while before == math.inf or one < before / 2:
            answer = self._call(i, 0, repeat)
            if answer.outcome == "declined":
                row.skipped = answer.detail
                return
            if answer.outcome != "ok":
                row.rejected = f"{answer.outcome}: {answer.detail}"
                return
            one, before = min(one, answer.seconds / repeat), one
            if one > MOST_CALL_SECONDS:
                row.skipped = f"{duration(one)} a call"
                return
            repeat = max(1, min(10 * repeat, int(WARM_UP_SECONDS / max(one, 1e-7))))
        wanted = min(MOST_REPEATS, SAMPLE_SECONDS / max(one, 1e-7))
        self.repeats[i] = max(1, batch * round(wanted / batch))

    def _sample(self, i: int, n_round: int) -> None:
        row, repeat = self.rows[i], self.repeats[i]
        which = n_round % 2
        with self.rest:
            answer = self._call(i, which, repeat)
        if answer.outcome != "ok":
            row.rejected = f"{answer.outcome}: {answer.detail}"
            return
        one = answer.seconds / repeat
        if answer.seconds > MOST_SAMPLE_SECONDS:
            self.repeats[i] = max(1, round(MOST_SAMPLE_SECONDS / one))
        row.samples.append(one)
        row.workspace_bytes = answer.workspace_bytes
        row.overhead_s, row.overhead_bytes = answer.overhead, answer.overhead_bytes
        row.rejected = self._doubt(which, repeat, one)

    def _call(self, i: int, which: int, repeat: int) -> Answer:
        q, k, v = self.inputs[which]
        self.arena.fill(self.case, {"q": q, "k": k, "v": v})
        return self.children[i].run(self.case, repeat=repeat)

    def _doubt(self, which: int, repeat: int, seconds: float) -> str:
        """Why the sample cannot be believed; empty if it can."""
        least = self.shape.flops / (ABOVE_CEILING * self.ceilings.flops)
        if seconds < least:
            self.ceilings = self.raise_ceilings()
            least = self.shape.flops / (ABOVE_CEILING * self.ceilings.flops)
        if seconds < least:
            return (
                f"{self.shape.flops / seconds / 1e9:,.0f} GFLOP/s is more than this machine can "
                f"do, {self.ceilings.flops / 1e9:,.0f}"
            )
        q, k, v = self.inputs[which]
        out = self.arena.out()
        for b in range(min(self.case.batch, repeat)):
            flips = -(-(repeat - b) // self.case.batch)
            if problem := self._judge(b, q[b], k[b], v[b], out[b], flips):
                return problem
        return ""

    def _judge(self, b: int, q: F32, k: F32, v: F32, out: F32, flips: int) -> str:
        """Some rows of a set's output, the flipped one among them, against float64."""
        case = self.case
        rng = np.random.default_rng([b, flips])
        rows = np.unique([case.n_q - 1, *rng.integers(0, case.n_q, JUDGED_ROWS - 1)])
        for h in sorted({0, int(rng.integers(case.n_head))}):
            asked = q[h, rows]
            if h == 0 and flips % 2:
                asked[-1, 0] = -asked[-1, 0]
            seen = rows + case.n_kv - case.n_q + 1 if case.causal else [case.n_kv] * len(rows)
            expected = attend(asked, k[h], v[h], np.array(seen), case.scale_value)
            verdict = judge(out[h, rows], expected)
            if not verdict.passed:
                return (
                    f"a timed result is wrong (set {b}, head {h}: error {verdict.error:.2g}, "
                    f"allowed {verdict.tolerance:.2g}), or an earlier one; see gpt149 check"
                )
        return ""
