"""One call of a kernel, and everything that can be told about it afterwards."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arena import NAMES, Arena
from .cases import Case
from .isolation import Answer, Child
from .judge import Expected, Verdict, expect, judge

F32 = NDArray[np.float32]
Memo = dict[tuple[Case, int], Expected]
MOST_TIMED, TIMING_SECONDS = 7, 0.2


@dataclass(frozen=True)
class Observation:
    """A case, what went in, and what came of it. `verdict` is None where nothing came back."""

    case: Case
    q: F32
    k: F32
    v: F32
    answer: Answer
    verdict: Verdict | None
    out: F32
    unwritten: NDArray[np.bool_]
    from_outside: NDArray[np.bool_]  # see Arena
    lse: F32 | None = None
    changed_inputs: tuple[str, ...] = ()
    written_outside: tuple[int, int] | None = None

    @property
    def passed(self) -> bool:
        """Right, and nothing was touched that was not the kernel's."""
        clean = not self.changed_inputs and self.written_outside is None
        ok = self.answer.outcome == "ok" and not self.answer.workspace_overrun
        return ok and clean and self.verdict is not None and self.verdict.passed

    @property
    def wrong(self) -> bool:
        """It returned, with wrong values in out."""
        return self.verdict is not None and bool(self.verdict.wrong.any())

    @property
    def wrong_lse(self) -> bool:
        """It returned, out is right, and lse is not."""
        return self.verdict is not None and not self.wrong and not self.verdict.passed


class Bench:
    """A kernel in a child, the arena that both share, and the answers already worked out."""

    def __init__(self, child: Child, arena: Arena, memo: Memo | None = None) -> None:
        """memo: answers that were worked out before; more are added."""
        self._child, self._arena = child, arena
        self._read_only = True  # of the inputs, until a kernel crashed
        self._expected = {} if memo is None else memo

    def observe(
        self,
        case: Case,
        *,
        workspace_fill: int = 0xFF,
        zero_out: bool = False,
        n_threads: int | None = None,
        v: F32 | None = None,
        fenced: Sequence[str] = NAMES,
        sized_for: int | None = None,
    ) -> Observation:
        """Run the case, once or as often as it says; judge the last call.

        Args:
            case: the case.
            workspace_fill: the byte that the workspace is filled with.
            zero_out: hand over an out of zeros instead of poison.
            n_threads: instead of the case's.
            v: instead of the case's (n_kv_head may not change).
            fenced: tensors of a case at an edge behind which memory ends.
            sized_for: threads that workspace_bytes is asked for, instead of the call's.
        """
        repeats = {"changed": 2, "again": 3}.get(case.calls, 1)
        for repeat in range(repeats):
            # `changed`: other numbers first, then those that are judged. `again`: the same.
            if case.calls == "changed" or repeat == 0:
                drawing = repeats - 1 - repeat if case.calls == "changed" else 0
                q, k, drawn = case.draw(drawing)
            tensors = {"q": q, "k": k, "v": drawn if v is None else v, **case.vectors(drawing)}
            if zero_out:
                tensors["out"] = np.zeros((*q.shape[:3], case.width), np.float32)
            self._arena.fill(case, tensors)
            run = partial(
                self._child.run,
                case,
                workspace_fill=workspace_fill,
                n_threads=n_threads,
                fenced=fenced,
                sized_for=sized_for,
            )
            answer = run(read_only=self._read_only)
            only_where_read_only = False
            if self._read_only and answer.outcome == "crash":
                self._read_only = False
                crash = answer
                for read_only in (False, True, False):  # three times as it should: no chance
                    self._arena.fill(case, tensors)
                    answer = run(read_only=read_only)
                    only_where_read_only = (answer.outcome == "crash") == read_only
                    if not only_where_read_only:
                        answer = crash
                        break
            out = self._arena.out()
            if answer.outcome != "ok":
                nothing = np.zeros(out.shape, dtype=bool)
                return Observation(case, q, k, tensors["v"], answer, None, out, nothing, nothing)
            expected = self._expect(case, q, k, tensors["v"], None if v is not None else drawing)
            lse = self._arena.lse()
            verdict = judge(out, expected, lse)
            changed_inputs = tuple(self._arena.changed_inputs())
            if only_where_read_only and not changed_inputs:
                changed_inputs = ("q, k or v",)
            if changed_inputs or not verdict.passed:
                break
        return Observation(
            case,
            q,
            k,
            tensors["v"],
            answer,
            verdict,
            out,
            self._arena.unwritten(),
            self._arena.from_outside(),
            lse,
            changed_inputs,
            self._arena.written_outside(),
        )

    def ask(
        self,
        case: Case,
        q: F32,
        k: F32,
        v: F32,
        *,
        memory: Mapping[str, F32] | None = None,
        vectors: Mapping[str, NDArray[Any]] | None = None,
    ) -> F32 | None:
        """One call with inputs of one's own; what it gave, None where it did not return.

        Args:
            case: its shape, layout and threads.
            q: (batch, n_head, n_q, head_dim), as k and v of the case's shapes.
            k: keys.
            v: values.
            memory: of tensors by name, what lies in and around them instead: `room` floats.
            vectors: alibi_slopes, sinks, kv_begin instead of the case's, by name.

        What is read from elsewhere is 0 and not NaN, so that the rest can be told.
        """
        tensors = {"q": q, "k": k, "v": v, **case.vectors(), **(vectors or {})}
        self._arena.fill(case, tensors, around=np.uint32(0))
        for name, numbers in (memory or {}).items():
            self._arena.flood(name, numbers)
        answer = self._child.run(replace(case, calls="once"), workspace_fill=0)
        return self._arena.out() if answer.outcome == "ok" else None

    def ask_lse(self, case: Case, q: F32, k: F32, v: F32) -> F32 | None:
        """As `ask`; what it gave for lse (batch, n_head, n_q)."""
        return None if self.ask(case, q, k, v) is None else self._arena.lse()

    def seconds(self, case: Case) -> float:
        """The median time of a few calls, NaN if one of them fails."""
        q, k, v = case.draw()
        times = list[float]()
        start = time.monotonic()
        while len(times) < MOST_TIMED and (not times or time.monotonic() - start < TIMING_SECONDS):
            self._arena.fill(case, {"q": q, "k": k, "v": v, **case.vectors()})
            answer = self._child.run(case)
            times.append(answer.seconds if answer.outcome == "ok" else math.nan)
        return statistics.median(times)

    def holds(self, case: Case) -> bool:
        """Whether there is room for the case, which need not be one that it was made for."""
        return self._arena.holds(case)

    def restart(self) -> None:
        """Forget what the kernel may remember: the next call is its first."""
        self._child.restart()

    def noise(self) -> str:
        """What the kernel printed."""
        return self._child.noise()

    def _expect(self, case: Case, q: F32, k: F32, v: F32, drawing: int | None) -> Expected:
        """What the inputs give; drawing: which of the case's they are, None if they are others."""
        if drawing is None:
            return expect(case, q, k, v)
        # What a kernel is told besides, or how often it is called, changes no answer.
        bare = replace(case, name="", br=0, bc=0, n_threads=1, layout="contiguous", calls="once")
        key = (replace(bare, aligned=True, lse=False), drawing)
        if key not in self._expected:
            self._expected[key] = expect(case, q, k, v, drawing)
        return self._expected[key]
