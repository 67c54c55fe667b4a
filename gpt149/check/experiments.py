"""Experiments: a failing case again with one thing changed (one thread, a fresh process, a zeroed
workspace, equal tiles). Where the answer is then right, the change points to the cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .finding import Finding, describe_rows
from .judge import expect, judge
from .observe import Bench, Observation

ALONE = 4  # failing cases that are run alone, each in a fresh process


def by_experiment(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """The smallest failing case again with one thing changed; at most one finding."""
    first = wrong[0]
    case = first.case
    if _right_with_one_thread(wrong, bench):
        return [
            Finding(
                "race",
                "threads disturb each other: they share a temporary, or their rows overlap",
                f"'{case.name}' is right with 1 thread, wrong with {case.n_threads}",
                1.0,
            )
        ]
    at_once = all(o.case.calls == "heads" for o in wrong)
    if at_once and bench.observe(replace(case, calls="once")).passed:
        return [
            Finding(
                "not_reentrant",
                "calls at the same time disturb each other: they share a static or global buffer. "
                "The workspace is a call's own",
                f"'{case.name}' is right in one call, wrong in {case.n_kv_head} at once",
                1.0,
            )
        ]
    if right_when_alone(wrong, bench):
        return [state_left_behind(wrong)]
    if not np.isfinite(first.out).all() or first.verdict is None or first.unwritten.any():
        if bench.observe(case, workspace_fill=0).passed:
            return [
                Finding(
                    "workspace_assumed_zero",
                    "the workspace is taken to be filled with zeros",
                    "right with a zeroed workspace, wrong with another",
                    1.0,
                )
            ]
        if bench.observe(case, zero_out=True).passed:
            return [
                Finding(
                    "out_not_zeroed",
                    "the output is added to what out held before: out is taken to be zeros",
                    "right when out arrives as zeros, wrong otherwise",
                    1.0,
                )
            ]
    if all(np.array_equal(o.verdict.wrong, o.unwritten) for o in wrong if o.verdict):
        return [
            Finding(
                "queries_unwritten",
                f"values of out are never written: {describe_rows(first.unwritten)}",
                f"what is written is right, in all of {len(wrong)} failing cases",
                1.0,
            )
        ]
    return _unequal_tiles(wrong, bench)


def _right_with_one_thread(wrong: Sequence[Observation], bench: Bench) -> bool:
    """Whether the failing cases, all of several threads, pass with one in the same process."""
    if any(o.case.n_threads == 1 for o in wrong):
        return False
    return all(bench.observe(o.case, n_threads=1).passed for o in wrong[:ALONE])


def right_when_alone(failed: Sequence[Observation], bench: Bench) -> bool:
    """Whether the first failing cases pass, each as the first call of a fresh child."""
    for o in failed[:ALONE]:
        bench.restart()
        if not bench.observe(replace(o.case, calls="once")).passed:
            return False
    return True


def state_left_behind(failed: Sequence[Observation]) -> Finding:
    """What an earlier call left behind: its result, or something that spoils this one."""
    for o in failed:
        if o.case.calls == "changed" and o.wrong:
            earlier = expect(o.case, *o.case.draw(1))
            if judge(o.out, earlier).passed:
                return Finding(
                    "cached_result",
                    "the result does not follow the inputs: an earlier call's is returned",
                    f"'{o.case.name}' gives the right answer to the call before",
                    1.0,
                )
    return Finding(
        "static_state",
        "what one call leaves behind spoils the next: a static or global buffer keeps its content "
        "or its size",
        f"'{failed[0].case.name}' is right as the first call of a process, wrong behind others",
        1.0,
    )


def _unequal_tiles(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Right whenever br = bc, of either size: then the two are confused somewhere."""
    tiled = [o for o in wrong if o.case.br and o.case.bc and o.case.calls == "once"]
    if not tiled:
        return []
    case = tiled[0].case
    sizes = [s for s in (case.br, case.bc) if s < case.n_kv]
    if sizes and all(bench.observe(replace(case, br=s, bc=s)).passed for s in sizes):
        return [
            Finding(
                "br_bc_confused",
                "br and bc are confused: one is used where the other is meant",
                f"'{case.name}' is right with br = bc = {' and '.join(map(str, sizes))}, wrong "
                f"with br={case.br} bc={case.bc}",
                1.0,
            )
        ]
    return []
