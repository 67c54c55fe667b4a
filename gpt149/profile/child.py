"""The parent's side of `worker`: calls in turn, and what their figures say together."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bench.shapes import vectors
from ..check.arena import MARGIN, place
from ..check.cases import Case
from ..errors import KernelCrashed, KernelDeclined
from ..kernels.registry import Source, described
from ..system.child import module_command
from ..system.talker import MEMORY_LIMIT, Ending, Talker

WORKER = "gpt149.profile.worker"
TIMEOUT = 30.0
# Threads that wait sleep, so that CPU time is work: neighbours stretch the wall's, not that.
ASLEEP = ("OMP_WAIT_POLICY=passive", "GOMP_SPINCOUNT=0")
LANES = {"avx512": 16, "avx2": 8, "neon": 4}
WORKING = 0.25  # of the busiest thread's time: less is waiting
WAKING = 15e-6  # seconds that a thread takes to find out that there is nothing to do
STEADY = 1.1


@dataclass(frozen=True)
class Calls:
    """Calls of one case, a dict each: see `worker`."""

    calls: Sequence[dict[str, Any]]
    workspace_bytes: int = 0

    def median(self, what: str) -> float:
        return float(statistics.median(call[what] for call in self.calls))

    @property
    def busy(self) -> float:
        """CPU seconds of the busiest thread: what the call takes on a machine of its own."""
        return float(statistics.median(call["threads"][0] for call in self.calls))

    @property
    def workers(self) -> int:
        """How many threads worked: the most of any call, for neighbours may keep some from it."""
        return max(sum(_worked(call["threads"])) for call in self.calls)

    @property
    def usual_workers(self) -> int:
        """The same of the median call: what waits in some for the next call does no work in it."""
        return statistics.median_low(sum(_worked(call["threads"])) for call in self.calls)

    def imbalance(self, n: int) -> float | None:
        """The busiest of n threads against their mean; None if each call says something else.

        What is dealt out unevenly is so in every call; what a neighbour delays, in some.
        """
        shares = self._shares(n)
        half = shares[: len(shares) // 2 + 1]
        return half[0] if half[-1] < STEADY * half[0] else None

    def usual_imbalance(self, n: int) -> float:
        """The same of the median call, whatever others say."""
        return statistics.median(self._shares(n))

    def _shares(self, n: int) -> list[float]:
        return sorted(
            float(call["threads"][0]) * n / max(sum(call["threads"][:n]), 1e-12)
            for call in self.calls
        )


def _worked(threads: Sequence[float]) -> list[bool]:
    return [seconds > max(WORKING * threads[0], WAKING) for seconds in threads]


Rows = NDArray[np.uint64]  # address, where from, thread, registers: see csrc/tools/sampler.cpp


@dataclass(frozen=True)
class Steps:
    """A call, an instruction a row. whole: the call came to its end."""

    rows: Rows
    whole: bool


@dataclass(frozen=True)
class Counters:
    """Of one call with one thread, in user mode."""

    instructions: int
    cycles: int
    cache_misses: int


class Watched(Talker):
    """A process that has one kernel loaded, and watches it."""

    def __init__(self, source: Source, library: Path | None, sampler: Path | None) -> None:
        command = module_command(WORKER, described(source, library), str(sampler or ""))
        env = shutil.which("env")
        first = " ".join(filter(None, (str(sampler or ""), os.environ.get("LD_PRELOAD"))))
        settings = [*ASLEEP, f"LD_PRELOAD={first}"] if first else ASLEEP
        super().__init__([env, *settings, *command] if env else command, MEMORY_LIMIT)
        self.source, self.library = source, library
        self.told: Callable[[], None] = lambda: None  # before each question; may raise, to end it
        self.fault_seconds = 0.0
        self.lanes = 0  # floats of a vector as wide as the kernel was built for

    def greeted(self, hello: dict[str, Any]) -> None:
        self.fault_seconds = float(hello["fault_seconds"])
        self.lanes = LANES.get(hello["isa"], 4)

    def calls(self, case: Case, repeat: int, *, flush: bool = False) -> Calls:
        """flush: the thread that calls takes denormals for 0."""
        reply = self._asked({"do": "time", "repeat": repeat, "flush": flush}, case)
        return Calls(reply["calls"], reply["workspace_bytes"])

    def in_turn(self, cases: Sequence[Case], rounds: int, repeat: int = 1) -> list[Calls]:
        """A B C A B C ...: what slows some of it down slows all. The first round is not kept."""
        kept: list[list[dict[str, Any]]] = [[] for _ in cases]
        for n in range(rounds + 1):
            for case, calls in zip(cases, kept, strict=True):
                found = self.calls(case, repeat)
                if n:
                    calls += found.calls
        return [Calls(calls) for calls in kept]

    def samples(self, case: Case, seconds: float, nanoseconds: int) -> Rows | None:
        """Where the threads of calls are; None where no timer interrupts them. See `worker`."""
        found = self._rows({"do": "sample", "seconds": seconds, "nanoseconds": nanoseconds}, case)
        return found and found[0]

    def steps(self, case: Case, most: int) -> Steps | None:
        """None where instructions cannot be followed one by one."""
        try:
            found = self._rows({"do": "step", "most": most}, case)
        except KernelCrashed:  # as what blocks signals does
            return None
        return found and Steps(found[0], found[1]["whole"])

    def counters(self, case: Case) -> Counters | str:
        """What the processor counts in a call with one thread; or why it may not be asked."""
        reply = self._asked({"do": "count"}, case)
        return Counters(*reply["counts"]) if not reply["errno"] else os.strerror(reply["errno"])

    def workspace_bytes(self, case: Case) -> int:
        """What the kernel would ask for; nothing is called."""
        return int(self._asked({"do": "workspace_asked"}, case)["bytes"])

    def _rows(self, question: dict[str, Any], case: Case) -> tuple[Rows, dict[str, Any]] | None:
        with tempfile.NamedTemporaryFile(suffix=".npy") as into:
            reply = self._asked({**question, "into": into.name}, case)
            return (np.load(into.name), reply) if reply["rows"] > 0 else None

    def _asked(self, question: dict[str, Any], case: Case) -> dict[str, Any]:
        self.told()
        placed = place(case)
        out = placed["out"]
        tensors = {name: (tensor.start, tensor.strides) for name, tensor in placed.items()}
        call = {
            "shape": case.shape,
            "tensors": tensors,
            "floats": out.start + out.span + MARGIN,
            "inputs": case.inputs,
            "vectors": {name: vector.tolist() for name, vector in vectors(case).items()},
        }
        reply = self.ask({**question, **call}, TIMEOUT)
        if isinstance(reply, Ending):
            raise KernelCrashed(
                f"the kernel {self.source} did not come back ({reply.detail}) from "
                f"{case.describe()}. Find out why first: gpt149 check {self.source}"
            )
        if reply["outcome"] != "ok":
            raise KernelDeclined(reply["detail"])
        return reply
