"""How long the template's call takes: a submission and our kernel in turn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..check.arena import Arena
from ..check.cases import Case
from ..check.isolation import Answer, Child
from ..kernels.registry import compiled, locate

REPEATS = 3


@dataclass(frozen=True)
class Timing:
    """Medians of a few calls of the template's shape, in seconds, and bytes.

    memory: temporaries and output. growth: by how much the process's peak RSS grew. walls: the
    wall time of each round.
    """

    cpu: float
    wall: float
    memory: int
    growth: int
    walls: tuple[float, ...] = ()


def time_in_turn(
    specs: Sequence[str], case: Case, timeout: float, rounds: int = REPEATS
) -> list[Timing | None]:
    """The kernels in turn, so many rounds, each in a process of its own; timeout: seconds a call.

    None for what does not return.
    """
    sources = [locate(spec) for spec in specs]
    q, k, v = case.draw()
    arena = Arena([case])
    with ExitStack() as stack:
        stack.callback(arena.close)
        children = [
            stack.enter_context(Child(source, compiled(source), arena, timeout))
            for source in sources
        ]
        answers: list[list[Answer]] = [[] for _ in children]
        for _ in range(rounds):
            for child, kept in zip(children, answers, strict=True):
                arena.fill(case, {"q": q, "k": k, "v": v})
                kept.append(child.run(case))
    return [_timing(kept, q.nbytes) for kept in answers]


def _timing(answers: Sequence[Answer], out_bytes: int) -> Timing | None:
    if any(answer.outcome != "ok" for answer in answers):
        return None
    return Timing(
        cpu=statistics.median(a.cpu_seconds for a in answers),
        wall=statistics.median(a.seconds for a in answers),
        memory=answers[0].workspace_bytes + out_bytes,
        growth=max(a.peak_growth for a in answers),
        walls=tuple(a.seconds for a in answers),
    )
