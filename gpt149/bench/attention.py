"""Attention alone: every kernel on every shape, in turn, each in a process of its own."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ..check.arena import Arena
from ..check.cases import Case
from ..check.judge import attend, judge
from ..check.run import affordable
from ..kernels.registry import Source, compiled, described, locate
from ..system.child import module_command
from ..system.talker import MEMORY_LIMIT, Ending, Talker
from ..system.words import duration
from .ceilings import Ceilings
from .pace import SAMPLE_SECONDS, Rest
from .results import Row
from .shapes import Shape
from .timing import F32, fresh, renew

WORKER = "gpt149.bench.timing"
LEAST_ROUNDS, MOST_ROUNDS = 3, 30
MOST_CALL_SECONDS = 0.5  # slower kernels are left out of a shape
MOST_REPEATS = 2000
MOST_SAMPLE_SECONDS = 0.2  # what takes longer had neighbours, and is repeated less
WARM_UP_SECONDS = 0.06
MOST_JUDGED_HEADS = 256  # more take longer to judge than to time
ABOVE_CEILING = 1.1  # times the ceiling: no honest kernel gets there
TIMEOUT = 60.0


@dataclass(frozen=True)
class Sample(Ending):
    """What became of calls over and over.

    outcome: ok, declined, raised and workspace too. seconds: of the calls alone. overhead,
    overhead_bytes: of the harness, a call. kept: rows of each judged result, in hexadecimal.
    """

    workspace_bytes: int = 0
    seconds: float = 0.0
    overhead: float = 0.0
    overhead_bytes: int = 0
    kept: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """Calls over and over. seed: of their fresh numbers. judged, heads, rows: which are judged.

    rows: of each of the heads.
    """

    repeat: int
    seed: int
    judged: Sequence[int]
    heads: Sequence[int]
    rows: Sequence[Sequence[int]]

    @classmethod
    def of(cls, case: Case, repeat: int) -> Plan:
        """The last call and another, the first and the last row and another: each time others."""
        rng = np.random.default_rng()
        judged = {repeat - 1, int(rng.integers(repeat))}
        n_judged = min(case.n_head, MOST_JUDGED_HEADS)
        heads = rng.choice(case.n_head, n_judged, replace=False)
        rows = np.zeros((n_judged, min(case.n_q, 3)), int)
        rows[:, 1:-1] = rng.integers(case.n_q, size=(n_judged, 1))
        rows[:, -1] = case.n_q - 1
        seed = int(rng.integers(2**63))
        return cls(repeat, seed, sorted(judged), heads.tolist(), rows.tolist())


class Timed(Talker):
    """A process that has one kernel loaded, and times it on what an arena holds."""

    def __init__(self, source: Source, library: Path | None, arena: Arena) -> None:
        command = module_command(WORKER, described(source, library), str(arena.handle))
        super().__init__(command, arena.size + MEMORY_LIMIT, inherited=[arena.handle])
        self._arena = arena

    def run(self, case: Case, plan: Plan) -> Sample:
        """The plan's calls, each of the next batch, with numbers that never come again."""
        placed = self._arena.placed.items()
        tensors = {name: (tensor.start, tensor.strides) for name, tensor in placed}
        question = {"shape": case.shape, "tensors": tensors, **asdict(plan)}
        reply = self.ask(question, TIMEOUT)
        if isinstance(reply, Ending):
            return Sample(**asdict(reply))
        return Sample(**{"outcome": "ok", **reply})


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
            stack.enter_context(Timed(source, library, arena))
            for source, library in zip(sources, libraries, strict=True)
        ]
        for shape, case in zip(shapes, cases, strict=True):
            race = _Race(shape, case, specs, children, arena, ceilings, raise_once)
            for row, source in zip(race.rows, sources, strict=True):
                if not affordable(source, case):
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
        children: Sequence[Timed],
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
            answer = self._call(i, 0, Plan.of(self.case, repeat))
            if answer.outcome in ("declined", "memory"):  # neither is wrong
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
        which, plan = n_round % 2, Plan.of(self.case, repeat)
        with self.rest:
            answer = self._call(i, which, plan)
        if answer.outcome != "ok":
            row.rejected = f"{answer.outcome}: {answer.detail}"
            return
        one = answer.seconds / repeat
        if answer.seconds > MOST_SAMPLE_SECONDS:
            self.repeats[i] = max(1, round(MOST_SAMPLE_SECONDS / one))
        row.samples.append(one)
        row.workspace_bytes = answer.workspace_bytes
        row.overhead_s, row.overhead_bytes = answer.overhead, answer.overhead_bytes
        row.rejected = self._doubt(which, plan, answer)

    def _call(self, i: int, which: int, plan: Plan) -> Sample:
        q, k, v = self.inputs[which]
        self.arena.fill(self.case, {"q": q, "k": k, "v": v, **self.shape.vectors()})
        return self.children[i].run(self.case, plan)

    def _doubt(self, which: int, plan: Plan, sample: Sample) -> str:
        """Why the sample cannot be believed; empty if it can."""
        seconds = sample.seconds / plan.repeat
        least = self.shape.flops / (ABOVE_CEILING * self.ceilings.flops)
        if seconds < least and not self.shape.half:  # the ceiling is of float32
            self.ceilings = self.raise_ceilings()
            least = self.shape.flops / (ABOVE_CEILING * self.ceilings.flops)
            if seconds < least:
                return (
                    f"{self.shape.flops / seconds / 1e9:,.0f} GFLOP/s is more than this machine "
                    f"can do, {self.ceilings.flops / 1e9:,.0f}"
                )
        numbers = fresh(plan.seed, self.case.n_head, self.case.half)
        judged = [
            (i, new) for i, new in enumerate(islice(numbers, plan.repeat)) if i in plan.judged
        ]
        for (i, new), kept in zip(judged, sample.kept, strict=True):
            q, k, v = (tensor[i % self.case.batch] for tensor in self.inputs[which])
            renew(q, k, v, new, self.case.window)
            if problem := self._judge(plan, q, k, v, kept):
                return f"a timed result is wrong (call {i + 1} of {plan.repeat}, {problem}"
        return ""

    def _judge(self, plan: Plan, q: F32, k: F32, v: F32, kept: str) -> str:
        """The plan's rows of a result against float64."""
        case, hidden = self.case, self.case.n_kv - self.case.n_q
        out = np.frombuffer(bytes.fromhex(kept), np.float32)
        out = out.reshape(len(plan.heads), -1, case.width)
        for h, rows, found in zip(plan.heads, map(np.array, plan.rows), out, strict=True):
            seen = rows + 1 + hidden if case.causal else np.full(len(rows), case.n_kv)
            variant = self.shape.variant(h, rows)
            expected = attend(q[h, rows], k[h], v[h], seen, case.scale_value, variant=variant)
            verdict = judge(found, expected)
            if not verdict.passed:
                return (
                    f"head {h}: error {verdict.error:.2g}, allowed {verdict.tolerance:.2g}), or "
                    "kept from an earlier call; see gpt149 check"
                )
        return ""
