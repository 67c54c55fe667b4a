"""Experiments: a failing case again with one thing changed (one thread, a fresh process, a zeroed
workspace, equal tiles). Where the answer is then right, the change points to the cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .cases import CHANGES_OUT, Case
from .finding import Finding
from .judge import expect, judge
from .observe import Bench, Observation
from .reading.landing import read_landing
from .reading.probe import Probe
from .reading.read import read, telling
from .reading.where import where

LOW_BYTE = 0xFE  # four of them are -1.7e38
REPEATS = 3  # of a case that is wrong with several threads only
MOST_OF_THEM = 0.7  # of the failing cases
ALONE = 4  # failing cases that are run alone, each in a fresh process


def by_experiment(wrong: Sequence[Observation], bench: Bench) -> list[Finding]:
    """Failing cases again with one thing changed; at most one finding.

    What was never written, or taken for zeros, comes before threads: it may differ with them too.
    """
    first = wrong[0]
    for experiment in (_memory, _unwritten, _threads, _at_once, _state):
        if found := experiment(first, wrong, bench):
            return [found]
    if not (found := _unequal_tiles(wrong, bench)):
        return []
    # What a query sees may depend on both sizes rightly, and be wrong for another reason.
    seen = read(wrong, [], bench)
    if seen and seen[0].cause == "mask_wrong":
        said = f"where br and bc differ, {seen[0].sentence}: is one used where the other is meant?"
        return [replace(found, sentence=said, evidence=f"{found.evidence}; {seen[0].evidence}")]
    return [found]


def _memory(first: Observation, wrong: Sequence[Observation], bench: Bench) -> Finding | None:
    """Right with a workspace, or an out, of zeros."""
    if first.verdict is None:
        return None
    # A few cases, and wrong as before in between: what threads do to each other is luck.
    some = [o.case for o in wrong[:ALONE]]

    def mends(**zeroed: Any) -> bool:
        mended = all(bench.observe(case, **zeroed).passed for case in some)
        return mended and not any(bench.observe(case).passed for case in some)

    if mends(workspace_fill=0):
        return Finding(
            "workspace_assumed_zero",
            "the workspace is taken to be filled with zeros: what was never written there is used "
            f"({where(~np.isfinite(first.out)) or 'in every value'})",
            f"right with a zeroed workspace, wrong with another, in {len(some)} of {len(some)} "
            "cases",
            1.0,
        )
    unwritten = all(o.verdict and np.array_equal(o.verdict.wrong, o.unwritten) for o in wrong)
    if not unwritten and mends(zero_out=True):
        return Finding(
            "out_not_zeroed",
            "the output is added to what out held before: out is taken to be zeros",
            "right when out arrives as zeros, wrong otherwise",
            1.0,
        )
    with_rows = sorted((o.case for o in wrong), key=lambda case: case.n_q == 1)
    return _unset(with_rows[:ALONE], bench)


def _unset(some: Sequence[Case], bench: Bench) -> Finding | None:
    """What is the same each time, and another with each content of the workspace."""
    found = []
    for case in some:
        low, zeroed = (
            [
                bench.observe(replace(case, calls="once"), workspace_fill=fill).out
                for _ in range(REPEATS)
            ]
            for fill in (LOW_BYTE, 0)
        )
        same = (np.array_equal(o, runs[0], equal_nan=True) for runs in (low, zeroed) for o in runs)
        differs = ~((low[0] == zeroed[0]) | (np.isnan(low[0]) & np.isnan(zeroed[0])))
        if all(same) and differs.any():
            found.append((case, differs))
    if len(found) < min(2, len(some)):
        return None
    case, differs = min(found, key=lambda one: float(one[1].mean()))  # which says the most
    return Finding(
        "workspace_unset",
        "what the workspace held before decides the output: it is read where it was not written "
        f"({where(differs) or 'in every value'})",
        f"in '{case.name}', filled with very low numbers, and with zeros",
        1.0,
        case.name,
    )


def _unwritten(_: Observation, wrong: Sequence[Observation], bench: Bench) -> Finding | None:
    hit = [o for o in wrong if o.unwritten.any()]
    if len(hit) < MOST_OF_THEM * len(wrong):
        return None
    shown = (telling(hit) or hit)[0]
    alone = all(np.array_equal(o.verdict.wrong, o.unwritten) for o in hit if o.verdict)
    rest = "what is written is right" if alone else "other values are wrong, too"
    if not alone and (landed := _landed(shown, bench)):
        return landed
    return Finding(
        "queries_unwritten",
        f"values of out are never written: {where(shown.unwritten) or 'all of them'}",
        f"in {len(hit)} of {len(wrong)} failing cases, here in '{shown.case.name}'; {rest}",
        1.0,
        shown.case.name,
    )


def _landed(o: Observation, bench: Bench) -> Finding | None:
    """Rows that are missing because they are written in other rows' places."""
    if o.case.needs & CHANGES_OUT:
        return None
    for cause, said in read_landing(Probe(bench, replace(o.case, calls="once"))):
        missing = where(o.unwritten) or "all"
        evidence = f"read in '{o.case.name}'; never written are {missing}"
        return Finding(cause, said, evidence, 1.0, o.case.name)
    return None


def _threads(_: Observation, wrong: Sequence[Observation], bench: Bench) -> Finding | None:
    """Right with one thread: a race differs from run to run, work divided wrongly does not."""
    if not _right_with_one_thread(wrong, bench):
        return None
    case = replace(wrong[0].case, calls="once")
    evidence = f"'{case.name}' is right with 1 thread, wrong with {case.n_threads}"
    if all(_steady(replace(o.case, calls="once"), bench) for o in (*wrong[:ALONE], *wrong[-2:])):
        said = f"the same values are wrong in every run ({_places(wrong[0])})"
        # With the work divided so, who sees what? That is read as anything else.
        seen = read(wrong, [], bench)
        if seen:
            said, evidence = seen[0].sentence, f"{evidence}; {seen[0].evidence}"
        return Finding(
            "threads_split",
            f"the work is divided wrongly between threads: {said}",
            evidence,
            1.0,
            seen[0].case if seen else "",
        )
    sentence = "threads disturb each other: they share a temporary, or their rows overlap"
    return Finding("race", sentence, evidence, 1.0)


def _places(o: Observation) -> str:
    assert o.verdict is not None
    return where(o.verdict.wrong) or "all of them"


def _steady(case: Case, bench: Bench) -> bool:
    """Whether the case is wrong, and the same, in every run."""
    runs = [bench.observe(case) for _ in range(REPEATS)]
    same = all(np.array_equal(o.out, runs[0].out, equal_nan=True) for o in runs)
    return same and runs[0].wrong


def _at_once(first: Observation, wrong: Sequence[Observation], bench: Bench) -> Finding | None:
    case = first.case
    if any(o.case.calls != "heads" for o in wrong):
        return None
    if not bench.observe(replace(case, calls="once")).passed:
        return None
    return Finding(
        "not_reentrant",
        "calls at the same time disturb each other: they share a static or global buffer. "
        "The workspace is a call's own",
        f"'{case.name}' is right in one call, wrong in {case.n_kv_head} at once",
        1.0,
    )


def _state(_: Observation, wrong: Sequence[Observation], bench: Bench) -> Finding | None:
    return state_left_behind(wrong) if right_when_alone(wrong, bench) else None


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
            earlier = expect(o.case, *o.case.draw(1), 1)
            if judge(o.out, earlier, o.lse).passed:
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


def _unequal_tiles(wrong: Sequence[Observation], bench: Bench) -> Finding | None:
    """Right whenever br = bc, of either size: then the two are confused somewhere."""
    tiled = [o.case for o in wrong if o.case.br and o.case.bc and o.case.calls == "once"]
    # What is larger than all keys is one tile, whatever its size.
    tiled = [c for c in tiled if c.br != c.bc and min(c.br, c.bc) < c.n_kv]
    if not tiled:
        return None
    case = tiled[0]
    sizes = [s for s in (case.br, case.bc) if s < case.n_kv]
    if not all(bench.observe(replace(case, br=s, bc=s)).passed for s in sizes):
        return None
    return Finding(
        "br_bc_confused",
        "br and bc are confused: one is used where the other is meant",
        f"'{case.name}' is right with br = bc = {' and '.join(map(str, sizes))}, wrong "
        f"with br={case.br} bc={case.bc}",
        1.0,
    )
